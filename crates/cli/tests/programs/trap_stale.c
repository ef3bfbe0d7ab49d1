/* trap_stale PORT supervised|bare: callers that die during their bind.
 *
 * `supervised`: the parent process is the supervisor, which the test stops.
 */
#include "trap.h"
#include <linux/sched.h>
#include <pthread.h>
#include <time.h>

static int port, supervised;

static void pause_for(long microseconds) {
    struct timespec time = {microseconds / 1000000, microseconds % 1000000 * 1000};
    nanosleep(&time, NULL);
}

/* Stops the supervisor and waits for the stop, before which it could answer. */
static void supervisor(int number) {
    if (!supervised) return;
    kill(getppid(), number);
    char path[64], text[512], *state = NULL;
    snprintf(path, sizeof path, "/proc/%d/stat", getppid());
    for (int i = 0; number == SIGSTOP && i < 5000 && !(state && state[2] == 'T'); i++) {
        pause_for(1000);
        FILE *file = fopen(path, "r");
        text[file ? fread(text, 1, sizeof text - 1, file) : 0] = 0;
        if (file) fclose(file);
        state = strrchr(text, ')');
    }
}

static void processes_killed(void) {
    pid_t child[20];
    supervisor(SIGSTOP);
    for (int i = 0; i < 20; i++)
        if ((child[i] = fork()) == 0) _exit(bind_to(tcp(), numbered(i, port)));
    pause_for(100000);
    int died = 0;
    for (int i = 0; i < 20; i++) {
        int status;
        kill(child[i], SIGKILL);
        died += waitpid(child[i], &status, 0) == child[i];
    }
    supervisor(SIGCONT);
    tell("killed-processes-are-gone", died == 20 ? 0 : EPROTO, "-");
}

static void *binding(void *unused) {
    (void)unused;
    bind_to(tcp(), loopback(port));
    return NULL;
}

/* exec ends every other thread, even one in bind. */
static void threads_killed(void) {
    supervisor(SIGSTOP);
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        for (int i = 0; i < 8; i++) pthread_create(&thread, NULL, binding, NULL);
        pause_for(100000);
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    supervisor(SIGCONT);
    tell("killed-threads-let-exec-happen", status ? EPROTO : 0, "-");
}

/* A child dies in its bind. Another process gets its pid, with another socket under the same
 * descriptor, which must stay unchanged. */
static void pid_reused(void) {
    int touched = 0, reused = 0;
    for (int i = 0; i < 300; i++) {
        int fd = tcp(), number;
        pid_t child = fork();
        if (child == 0) {
            dup2(tcp(), fd);
            bind_to(fd, loopback(port));
            _exit(0);
        }
        /* From before the call until after its answer. */
        pause_for(i * 3 % 400);
        kill(child, SIGKILL);
        waitpid(child, &number, 0);
        pid_t wanted[] = {child};
        struct clone_args args = {.exit_signal = SIGCHLD, .set_tid_size = 1};
        args.set_tid = (__u64)(size_t)wanted;
        pid_t second = syscall(SYS_clone3, &args, sizeof args);
        if (second == 0) {
            pause_for(500);
            _exit(strcmp(shared(fd), "no") != 0);
        }
        if (second > 0) {
            waitpid(second, &number, 0);
            reused++;
            touched += number != 0;
        }
        close(fd);
    }
    /* set_tid needs CAP_CHECKPOINT_RESTORE. */
    if (geteuid() == 0) tell("pid-reused", reused < 200 ? ETIME : 0, touched ? "yes" : "no");
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    port = atoi(argv[1]);
    supervised = !strcmp(argv[2], "supervised");
    processes_killed();
    threads_killed();
    pid_reused();
    plain("after", loopback(port));
    return 0;
}
