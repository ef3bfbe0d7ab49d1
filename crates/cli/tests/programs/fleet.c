/* The servers and the clients of a fleet.
 *
 * fleet serve PORT: an HTTP server with a thread for each connection, which answers with its pid.
 * fleet ask ADDRESS PORT THREADS PAUSE: clients, one request a connection and a pause in microseconds, until
 * SIGTERM. Prints once in 100 ms, and at the end, what became of the requests: answered, refused, reset before an answer, reset within one, timed
 * out, a status of 5xx, any other answer.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWERED, REFUSED, UNANSWERED, CUT, TIMED_OUT, FAILED, WRONG, KINDS };

static const char *const names[KINDS] = {"answered", "refused", "unanswered", "cut", "timed-out", "5xx", "wrong"};
static unsigned long counts[KINDS];
static volatile sig_atomic_t over;
static struct sockaddr_in to;
static useconds_t pause_between;

static void *talk(void *socket) {
    int client = (int)(size_t)socket;
    char request[4096], answer[256];
    size_t length = 0;
    for (;;) {
        ssize_t n = read(client, request + length, sizeof request - 1 - length);
        if (n <= 0) break;
        length += n;
        request[length] = 0;
        if (!strstr(request, "\r\n\r\n")) continue;
        int is_last = strcasestr(request, "\r\nConnection: close") != NULL;
        length = 0;
        char body[32];
        int size = snprintf(body, sizeof body, "%d\n", (int)getpid());
        n = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body);
        if (send(client, answer, n, MSG_NOSIGNAL) != n || is_last) break;
    }
    close(client);
    return NULL;
}

static int serve(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 1024)) {
        perror("bind");
        return 1;
    }
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
    for (;;) {
        int client = accept(fd, NULL, NULL);
        if (client < 0) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_t thread;
        if (pthread_create(&thread, &small, talk, (void *)(size_t)client)) close(client);
    }
}

/* What becomes of one request. */
static int ask(void) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: fleet\r\nConnection: close\r\n\r\n";
    int fd = socket(AF_INET, SOCK_STREAM, 0), kind = WRONG;
    struct timeval patience = {.tv_sec = 60};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    char answer[4096] = "";
    size_t length = 0;
    if (connect(fd, (void *)&to, sizeof to)) {
        kind = errno == ECONNREFUSED ? REFUSED : errno == ECONNRESET ? UNANSWERED : TIMED_OUT;
        close(fd);
        return kind;
    }
    ssize_t n = send(fd, request, sizeof request - 1, MSG_NOSIGNAL);
    while (n > 0) {
        n = read(fd, answer + length, sizeof answer - 1 - length);
        if (n > 0) length += n;
    }
    answer[length] = 0;
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) kind = TIMED_OUT;
    else if (length == 0) kind = UNANSWERED;
    else if (n < 0 || !strstr(answer, "\r\n\r\n")) kind = CUT;
    else if (!strncmp(answer, "HTTP/1.1 5", 10)) kind = FAILED;
    else if (!strncmp(answer, "HTTP/1.1 200", 12)) kind = ANSWERED;
    close(fd);
    return kind;
}

static void *keep_asking(void *unused) {
    (void)unused;
    while (!over) {
        int kind = ask();
        __atomic_add_fetch(&counts[kind], 1, __ATOMIC_RELAXED);
        /* One outage does not count many times. */
        usleep(kind == ANSWERED ? pause_between : 20000);
    }
    return NULL;
}

static void end(int signal) {
    (void)signal;
    over = 1;
}

static void report(void) {
    for (int kind = 0; kind < KINDS; kind++)
        printf("%s%s=%lu", kind ? " " : "", names[kind], __atomic_load_n(&counts[kind], __ATOMIC_RELAXED));
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) return serve(atoi(argv[2]));
    if (argc != 6) return 2;
    signal(SIGTERM, end);
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
    inet_pton(AF_INET, argv[2], &to.sin_addr);
    enum { MOST = 256 };
    pthread_t threads[MOST];
    int number = atoi(argv[4]);
    pause_between = atoi(argv[5]);
    if (number < 1 || number > MOST) return 2;
    for (int i = 0; i < number; i++)
        if (pthread_create(&threads[i], NULL, keep_asking, NULL)) return 1;
    while (!over) {
        usleep(100000);
        report();
    }
    for (int i = 0; i < number; i++) pthread_join(threads[i], NULL);
    report();
    return 0;
}
