/* trap_children PORT: binds in every kind of child.
 * trap_children leaf WHAT PORT: one bind.
 */
#include "trap.h"
#include <sched.h>
#include <spawn.h>

static int port;
static char port_text[8];

static void wait_for(pid_t child) {
    int status;
    waitpid(child, &status, 0);
    if (status) tell("child", EPROTO, "-");
}

static int in_clone(void *unused) {
    (void)unused;
    plain("clone", loopback(port));
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4) {
        plain(argv[2], loopback(atoi(argv[3])));
        return 0;
    }
    if (argc != 2) return 2;
    port = atoi(argv[1]);
    snprintf(port_text, sizeof port_text, "%d", port);
    extern char **environ;
    pid_t child;

    if ((child = fork()) == 0) {
        plain("fork", loopback(port));
        _exit(0);
    }
    wait_for(child);

    /* Between vfork and exec the child shares its parent's memory. */
    int fd = tcp();
    volatile int result = 0;
    if ((child = vfork()) == 0) {
        result = bind_to(fd, loopback(port));
        _exit(0);
    }
    wait_for(child);
    tell("vfork", result, shared(fd));
    close(fd);

    if ((child = vfork()) == 0) {
        execl("/proc/self/exe", argv[0], "leaf", "vfork-exec", port_text, NULL);
        _exit(1);
    }
    wait_for(child);

    char *spawned[] = {argv[0], "leaf", "posix_spawn", port_text, NULL};
    if (posix_spawn(&child, "/proc/self/exe", NULL, NULL, spawned, environ)) return 3;
    wait_for(child);

    char stack[65536] __attribute__((aligned(16)));
    child = clone(in_clone, stack + sizeof stack, CLONE_FILES | CLONE_FS | SIGCHLD, NULL);
    wait_for(child);

    if ((child = fork()) == 0) {
        setsid();
        if ((child = fork()) == 0) {
            plain("grandchild-in-own-session", loopback(port));
            _exit(0);
        }
        wait_for(child);
        _exit(0);
    }
    wait_for(child);

    plain("before-exec", loopback(port));
    execl("/proc/self/exe", argv[0], "leaf", "after", port_text, NULL);
    return 3;
}
