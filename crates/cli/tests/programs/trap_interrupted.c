/* trap_interrupted PORT: binds while a timer interrupts them, with SA_RESTART and without.
 *
 * Without it, a call can fail with EINTR until the supervisor receives it. The next call must then have
 * the same result.
 */
#include "trap.h"
#include <sys/time.h>

static volatile sig_atomic_t rang;

static void ring(int signal) {
    (void)signal;
    rang++;
}

static void under_timer(const char *what, int flags, int microseconds, int port) {
    struct sigaction action = {.sa_handler = ring, .sa_flags = flags};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, microseconds}, {0, microseconds}}, never = {{0, 0}, {0, 0}};
    rang = 0;
    setitimer(ITIMER_REAL, &every, NULL);
    int wrong = 0, interrupted = 0, binds = 0;
    const char *worst = "yes";
    /* Until enough signals have arrived: at least 1,000 binds, at most 100,000. */
    for (; binds < 1000 || (rang < 50 && binds < 100000); binds++) {
        int fd = tcp(), tries = 0, result;
        /* Alternating addresses: readers of /proc/PID/fd, such as other tests, hold a socket a little longer. */
        struct sockaddr_in at = numbered(binds % 64, port);
        while ((result = bind_to(fd, at)) == EINTR && tries++ < 1000) interrupted++;
        if (result) wrong = result;
        if (strcmp(shared(fd), "yes")) worst = shared(fd);
        close(fd);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    /* With SA_RESTART no call may fail with EINTR. */
    if (flags & SA_RESTART && interrupted) wrong = EINTR;
    fprintf(stderr, "%s: %d binds, %d signals, %d EINTR\n", what, binds, (int)rang, interrupted);
    tell(what, rang < 50 ? ETIME : wrong, worst);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int port = atoi(argv[1]);
    under_timer("restart-2-ms", SA_RESTART, 2000, port);
    under_timer("no-restart-2-ms", 0, 2000, port);
    under_timer("restart-1-ms", SA_RESTART, 1000, port);
    under_timer("no-restart-1-ms", 0, 1000, port);
    under_timer("no-restart-200-us", 0, 200, port);
    plain("after", loopback(port));
    return 0;
}
