/* A threaded HTTP server that answers every request, one a connection, with its pid. On SIGTERM it
 * stops accepting, answers its open connections, and exits.
 *
 * drains PORT [shared | any]
 *   shared  sets SO_REUSEPORT itself, and SO_REUSEADDR otherwise, as most servers do
 *   any     binds 0.0.0.0, and 127.0.0.1 otherwise
 *
 * Records the address of each accepted client in the directory $ACCEPTED, as sockaddr_in. accept4(2)
 * itself writes the address into a shared mapping, so the record exists even if a signal kills the
 * process before the call returns.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Open connections are always among the last of this many. */
enum { THREADS = 8, REMEMBERED = 16384 };

static int listener;
static atomic_bool stopping, ended[THREADS];
static struct sockaddr_in *accepted;
static atomic_uint next;

static void fail(const char *call) {
    fprintf(stderr, "%s: %s\n", call, strerror(errno));
    exit(1);
}

static void answer(int client) {
    char request[2048], text[256], body[32];
    size_t length = 0;
    do {
        ssize_t n = read(client, request + length, sizeof request - 1 - length);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        length += n;
        request[length] = 0;
    } while (!strstr(request, "\r\n\r\n"));
    int size = snprintf(body, sizeof body, "%d\n", (int)getpid());
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", size,
                     body);
    /* A closed connection is not an error. */
    if (send(client, text, n, MSG_NOSIGNAL) != n) perror("send");
}

static void *serve(void *number) {
    while (!stopping) {
        struct sockaddr_in *from = &accepted[next++ % REMEMBERED];
        socklen_t length = sizeof *from;
        int client = accept4(listener, (void *)from, &length, SOCK_CLOEXEC);
        if (client >= 0) {
            answer(client);
            close(client);
        } else if (errno != EINTR && errno != ECONNABORTED && errno != EAGAIN) {
            fail("accept4");
        }
    }
    ended[(long)number] = true;
    return NULL;
}

static void remember(const char *folder) {
    size_t size = REMEMBERED * sizeof *accepted;
    int file = -1;
    if (folder) {
        char path[4096];
        snprintf(path, sizeof path, "%s/XXXXXX", folder);
        file = mkstemp(path);
        if (file < 0 || ftruncate(file, size)) fail(path);
    }
    /* Populated now: a killed process handles no page faults. */
    accepted = mmap(NULL, size, PROT_READ | PROT_WRITE,
                    MAP_POPULATE | (folder ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS), file, 0);
    if (accepted == MAP_FAILED) fail("mmap");
}

static void nothing(int signal) { (void)signal; }

int main(int count, char **words) {
    if (count < 2) return 2;
    remember(getenv("ACCEPTED"));
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    /* Without SA_RESTART, so that it interrupts accept4. */
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = nothing}, NULL);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (count > 2 && !strcmp(words[2], "any")) address.sin_addr.s_addr = htonl(INADDR_ANY);
    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) fail("socket");
    int option = count > 2 && !strcmp(words[2], "shared") ? SO_REUSEPORT : SO_REUSEADDR;
    if (setsockopt(listener, SOL_SOCKET, option, &on, sizeof on))
        fail("setsockopt");
    if (bind(listener, (void *)&address, sizeof address)) fail("bind");
    if (listen(listener, 511)) fail("listen");
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, serve, (void *)i)) fail("pthread_create");
    printf("ready\n");
    fflush(stdout);

    int signal;
    sigwait(&term, &signal);
    stopping = true;
    for (long i = 0; i < THREADS; i++) {
        /* Repeated: a signal can arrive just before accept4. */
        while (!ended[i]) {
            pthread_kill(threads[i], SIGUSR1);
            usleep(1000);
        }
        pthread_join(threads[i], NULL);
    }
    close(listener);
    return 0;
}
