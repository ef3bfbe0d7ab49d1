/* An HTTP server that answers every connection with its pid, and misbehaves: rogue HOW PORT. On
 * SIGTERM it answers its open connections, and exits. Under `sameport run --name` only worker 1
 * misbehaves, so that the effect on other workers shows.
 *
 *   good     serves
 *   silent   never listens
 *   stuck    listens and never accepts
 *   deaf     ignores SIGTERM
 *   closes   serves for a while, then closes every descriptor and stays
 *   twice    binds one address twice, and serves on both
 *   flood    64 threads bind and close other addresses in a loop
 *   swaps    threads change descriptor and address of binds during the calls
 *   toggles  a thread toggles O_NONBLOCK and calls listen(fd, 0) in a loop
 *   shuts    calls shutdown(SHUT_RDWR) before every accept
 *   epoll    adds its socket to an epoll before the bind
 *   unshares serves in its own network namespace
 *   forks    a child serves, and the first process exits with 0
 *   setsid   the same in a new session, with an empty environment
 *   crashes  exits with 3 once it listens
 *   fails    exits with 4 before it listens
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *how;
static volatile sig_atomic_t stopping;
static struct sockaddr_in address;

static void stop(int signal) { stopping = signal; }

static int is(const char *what) { return !strcmp(how, what); }

static void fail(const char *call) {
    fprintf(stderr, "%s: %s\n", call, strerror(errno));
    exit(1);
}

static int tcp(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) fail("socket");
    return fd;
}

static void answer(int client) {
    char request[2048], text[256], body[32];
    /* Does not wait for a client without a request. */
    struct pollfd said = {.fd = client, .events = POLLIN};
    if (poll(&said, 1, 2000) > 0 && read(client, request, sizeof request) > 0) {
        int size = snprintf(body, sizeof body, "%d\n", (int)getpid());
        int n = snprintf(text, sizeof text,
                         "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
                         size, body);
        send(client, text, n, MSG_NOSIGNAL);
    }
    close(client);
}

static void *serve(void *socket) {
    int fd = *(int *)socket;
    for (int served = 0; !stopping;) {
        if (is("closes") && served == 3) {
            for (int other = 0; other < 1024; other++) close(other);
            while (!stopping) usleep(10000);
            break;
        }
        if (is("shuts")) shutdown(fd, SHUT_RDWR);
        struct pollfd waiting = {.fd = fd, .events = POLLIN};
        /* A timeout only checks for the stop flag. */
        if (poll(&waiting, 1, 50) != 1) continue;
        int client = accept(fd, NULL, NULL);
        if (client >= 0) {
            fcntl(client, F_SETFL, 0);
            answer(client);
            served++;
        } else if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
            fail("accept");
        }
    }
    return NULL;
}

static int bound(int fd) {
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Without it, the second bind of one program fails. */
    if (is("twice")) setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(fd, (void *)&address, sizeof address)) fail("bind");
    return fd;
}

static int listening(int fd) {
    bound(fd);
    if (listen(fd, 128)) fail("listen");
    return fd;
}

static void *flood(void *number) {
    struct sockaddr_in other = address;
    other.sin_addr.s_addr = htonl(0x7f010000 + (unsigned)(size_t)number);
    for (;;) {
        int fd = tcp();
        bind(fd, (void *)&other, sizeof other);
        close(fd);
    }
    return NULL;
}

static volatile int swapped = -1;
static struct sockaddr_in volatile wandering;

static void *swap(void *ignored) {
    for (unsigned round = 0;; round++) {
        int file = open("/dev/null", O_RDONLY), udp = socket(AF_INET, SOCK_DGRAM, 0);
        if (swapped >= 0) dup2(round % 2 ? file : udp, swapped);
        wandering.sin_port = htons(ntohs(address.sin_port) + 1 + round % 2);
        wandering.sin_family = round % 3 ? AF_INET : AF_UNIX;
        close(file), close(udp);
    }
    return ignored;
}

/* Each thread has its own descriptor numbers: a late swap must not hit the descriptor of a client. */
static void *binds(void *number) {
    int mine = 200 + (int)(size_t)number;
    for (;;) {
        int fd = tcp();
        dup2(fd, mine);
        close(fd);
        swapped = mine;
        if (!bind(mine, (void *)&wandering, sizeof wandering)) listen(mine, 1);
        close(mine);
    }
    return NULL;
}

static void *toggle(void *socket) {
    int fd = *(int *)socket;
    for (unsigned round = 0;; round++) {
        fcntl(fd, F_SETFL, round % 2 ? O_NONBLOCK : 0);
        listen(fd, 0);
        usleep(100);
    }
    return NULL;
}

static void thread(void *(*of)(void *), void *argument) {
    pthread_t id;
    if (pthread_create(&id, NULL, of, argument)) exit(1);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *worker = getenv("SAMEPORT_WORKER");
    how = worker && strcmp(worker, "1") ? "good" : argv[1];
    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    signal(SIGTERM, is("deaf") ? SIG_IGN : stop);
    if (is("silent")) {
        pause();
        return 0;
    }
    if (is("fails")) return 4;
    if (is("forks") || is("setsid")) {
        if (fork()) return 0;
        if (is("setsid")) {
            setsid();
            char *clean[] = {NULL}, *again[] = {argv[0], "good", argv[2], NULL};
            execve(argv[0], again, clean);
            fail("execve");
        }
    }
    if (is("unshares") && unshare(CLONE_NEWUSER | CLONE_NEWNET)) fail("unshare");
    pthread_t other;
    wandering = address;
    wandering.sin_port = htons(ntohs(address.sin_port) + 1);
    int fd = tcp();
    if (is("epoll")) {
        int set = epoll_create1(0);
        struct epoll_event event = {.events = EPOLLIN};
        if (epoll_ctl(set, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
        listening(fd);
        while (!stopping) {
            if (epoll_wait(set, &event, 1, 50) == 1) answer(accept(fd, NULL, NULL));
        }
        return 0;
    }
    listening(fd);
    if (is("crashes")) return 3;
    if (is("stuck")) {
        pause();
        return 0;
    }
    if (is("twice")) {
        static int second;
        second = listening(tcp());
        if (pthread_create(&other, NULL, serve, &second)) exit(1);
    }
    for (size_t n = 0; is("flood") && n < 64; n++) thread(flood, (void *)n);
    for (size_t n = 0; is("swaps") && n < 2; n++) thread(swap, NULL), thread(binds, (void *)n);
    if (is("toggles")) thread(toggle, &fd);
    serve(&fd);
    if (is("twice")) pthread_join(other, NULL);
    return 0;
}
