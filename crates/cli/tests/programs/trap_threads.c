/* trap_threads table|flip|swap|flood PORT [THREADS BINDS]: binds while other threads interfere.
 *
 * table  a thread with its own descriptor table, where the number is another socket
 * flip   a thread changes the port of the address in a loop
 * swap   a thread replaces the descriptor by another socket in a loop
 * flood  THREADS threads make BINDS binds in total; waits for SIGUSR1 before and after; prints
 *        "progress" to stderr every 100 binds of the first thread
 */
#include "trap.h"
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static int port;
static atomic_int stop, failures, unshared;

static void *with_own_table(void *number) {
    int same = *(int *)number;
    if (unshare(CLONE_FILES)) return "unshare";
    int own = tcp();
    if (dup2(own, same) != same) return "dup2";
    close(own);
    int result = bind_to(same, loopback(port));
    tell("own-table", result, shared(same));
    /* The kernel frees the table some time after the join. */
    close(same);
    return NULL;
}

static void table(void) {
    int outer = tcp();
    pthread_t thread;
    void *failed;
    pthread_create(&thread, NULL, with_own_table, &outer);
    pthread_join(thread, &failed);
    if (failed) exit(3);
    tell("same-number-elsewhere", 0, shared(outer));
    close(outer);
}

static void *flipping(void *address) {
    volatile in_port_t *word = &((struct sockaddr_in *)address)->sin_port;
    in_port_t here = htons(port);
    while (!stop) {
        *word = 0;
        *word = here;
    }
    return NULL;
}

static void flip(void) {
    struct sockaddr_in at = loopback(port);
    pthread_t thread;
    pthread_create(&thread, NULL, flipping, &at);
    int worst = 0;
    for (int i = 0; i < 2000; i++) {
        int fd = tcp();
        /* The socket is unshared if the kernel read port 0, so each bind has its own address. */
        at.sin_addr = numbered(i, port).sin_addr;
        int result = bind_raw(fd, &at, sizeof at);
        if (result) worst = result;
        close(fd);
    }
    stop = 1;
    pthread_join(thread, NULL);
    tell("flip", worst, "-");
}

static int swapped, pair[2];

static void *swapping(void *unused) {
    (void)unused;
    while (!stop) {
        dup2(pair[0], swapped);
        dup2(pair[1], swapped);
    }
    return NULL;
}

/* The descriptor is a TCP socket or a pipe: for either, the bind returns the kernel's result. */
static void swap(void) {
    int ends[2];
    if (pipe(ends)) exit(3);
    swapped = dup(ends[0]);
    int surprises = 0;
    for (int i = 0; i < 500; i++) {
        pair[0] = tcp();
        pair[1] = ends[0];
        stop = 0;
        pthread_t thread;
        pthread_create(&thread, NULL, swapping, NULL);
        for (int k = 0; k < 4; k++) {
            int result = bind_to(swapped, numbered(4 * i + k, port));
            surprises += result && result != ENOTSOCK && result != EINVAL;
        }
        stop = 1;
        pthread_join(thread, NULL);
        close(pair[0]);
        dup2(ends[0], swapped);
    }
    tell("swap", surprises ? EPROTO : 0, "-");
}

static int binds_each;

static void *flooding(void *number) {
    unsigned n = (unsigned)(size_t)number;
    for (int i = 0; i < binds_each; i++) {
        int fd = tcp();
        failures += bind_to(fd, numbered(n, port)) != 0;
        unshared += strcmp(shared(fd), "yes") != 0;
        close(fd);
        if (n == 0 && i % 100 == 99) fputs("progress\n", stderr);
    }
    return NULL;
}

static void wait_for_turn(const char *what) {
    sigset_t set;
    int which;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    tell(what, 0, "-");
    sigwait(&set, &which);
}

static void flood(int threads, int binds) {
    pthread_t thread[64];
    if (threads > 64) exit(2);
    /* The first round is the warm-up of the supervisor. */
    for (int round = 0; round < 2; round++) {
        binds_each = (round ? binds : binds / 10) / threads;
        for (int i = 0; i < threads; i++)
            pthread_create(&thread[i], NULL, flooding, (void *)(size_t)i);
        for (int i = 0; i < threads; i++) pthread_join(thread[i], NULL);
        wait_for_turn(round ? "full" : "warm");
    }
    tell("flood", failures ? EPROTO : 0, unshared ? "no" : "yes");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    port = atoi(argv[2]);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (!strcmp(argv[1], "table")) table();
    if (!strcmp(argv[1], "flip")) flip();
    if (!strcmp(argv[1], "swap")) swap();
    if (!strcmp(argv[1], "flood")) flood(atoi(argv[3]), atoi(argv[4]));
    plain("after", loopback(port));
    return 0;
}
