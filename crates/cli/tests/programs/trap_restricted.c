/* trap_restricted CASE PORT: binds of a process that restricts itself first.
 *
 * dumpable   PR_SET_DUMPABLE 0
 * filter     its own seccomp filter, which fails bind with EACCES
 * network    its own network namespace, with a socket created before and one after
 * closed     every descriptor closed, by close_range and by closefrom
 */
#include "trap.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/prctl.h>

static int refuse_bind(void) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bind, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    int port = atoi(argv[2]);
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (!strcmp(argv[1], "dumpable")) {
        /* Separate addresses, because a shared and an unshared socket conflict. */
        plain("dumpable", numbered(0, port));
        prctl(PR_SET_DUMPABLE, 0);
        for (int i = 1; i < 4; i++) plain("not-dumpable", numbered(i, port));
        prctl(PR_SET_DUMPABLE, 1);
    } else if (!strcmp(argv[1], "filter")) {
        plain("before-filter", loopback(port));
        if (refuse_bind()) return 3;
        plain("own-filter", loopback(port));
        return 0;
    } else if (!strcmp(argv[1], "network")) {
        int before = tcp();
        int flags = geteuid() ? CLONE_NEWUSER | CLONE_NEWNET : CLONE_NEWNET;
        if (unshare(flags)) {
            tell("unshare", errno, "-");
            return 0;
        }
        tell("unshare", 0, "-");
        plain("other-network", any);
        int result = bind_to(before, any);
        tell("socket-from-before", result, shared(before));
        close(before);
        return 0;
    } else if (!strcmp(argv[1], "closed")) {
        close_range(3, ~0u, 0);
        plain("close_range", loopback(port));
        closefrom(3);
        plain("closefrom", loopback(port));
        for (int fd = 3; fd < 1024; fd++) close(fd);
        plain("close-each", loopback(port));
    } else {
        return 2;
    }
    plain("after", loopback(port));
    return 0;
}
