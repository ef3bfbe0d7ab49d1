/* trap_signals: prints each signal as a line; exits on SIGALRM. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int main(void) {
    static const int all[] = {SIGHUP,  SIGINT,  SIGQUIT,  SIGTERM,
                              SIGUSR1, SIGUSR2, SIGWINCH, SIGALRM};
    char line[64];
    sigset_t set;
    siginfo_t got;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) sigaddset(&set, all[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int length = snprintf(line, sizeof line, "ready %d\n", getpid());
    if (write(1, line, length) != length) return 3;
    while (sigwaitinfo(&set, &got) > 0) {
        length = snprintf(line, sizeof line, "got %s\n", sigabbrev_np(got.si_signo));
        if (write(1, line, length) != length) return 3;
        if (got.si_signo == SIGALRM) return 0;
    }
    return 3;
}
