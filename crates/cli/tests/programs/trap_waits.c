/* trap_waits PORT: answers every connection on PORT with its pid, and binds a new socket to a new
 * address on each SIGUSR1.
 */
#include "trap.h"
#include <pthread.h>

static void *serve(void *listener) {
    int fd = *(int *)listener;
    char text[32];
    int length = snprintf(text, sizeof text, "%d\n", getpid());
    for (;;) {
        int client = accept(fd, NULL, NULL);
        if (client < 0 || write(client, text, length) != length) exit(3);
        close(client);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int port = atoi(argv[1]), which;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int fd = tcp();
    if (bind_to(fd, loopback(port)) || listen(fd, 16)) return 3;
    pthread_t thread;
    pthread_create(&thread, NULL, serve, &fd);
    tell("serving", 0, shared(fd));
    for (unsigned n = 1; sigwait(&set, &which) == 0; n++) plain("bound", numbered(n, port));
    return 0;
}
