/* trap_state FILE [ARGUMENT]...: writes to FILE all that a process inherits. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

/* Descriptors first, because the rest can open some. Without inode numbers. */
static void descriptors(FILE *out) {
    DIR *folder = opendir("/proc/self/fd");
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(folder)) continue;
        char link[512] = {0};
        if (readlinkat(dirfd(folder), entry->d_name, link, sizeof link - 1) < 0) continue;
        char *inode = strstr(link, ":[");
        if (inode) *inode = 0;
        int flags = fcntl(atoi(entry->d_name), F_GETFL);
        fprintf(out, "fd %s: %s, flags %o\n", entry->d_name, link, flags);
    }
    closedir(folder);
}

static void status(FILE *out) {
    static const char *wanted[] = {"Uid:", "Gid:", "Groups:", "SigPnd:", "ShdPnd:", "SigBlk:",
                                   "SigIgn:", "SigCgt:", "Cap", "NoNewPrivs:", "Seccomp:",
                                   "Cpus_allowed:", "Mems_allowed:"};
    char line[4096];
    FILE *file = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, file))
        for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
            if (!strncmp(line, wanted[i], strlen(wanted[i]))) fputs(line, out);
    fclose(file);
}

int main(int argc, char **argv) {
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    if (argc < 2) return 2;
    descriptors(out);
    for (int i = 2; i < argc; i++) fprintf(out, "argument %s\n", argv[i]);
    for (char **at = environ; *at; at++) fprintf(out, "environment %s\n", *at);
    char folder[4096];
    fprintf(out, "folder %s\n", getcwd(folder, sizeof folder));
    mode_t mask = umask(0);
    fprintf(out, "umask %o\n", (unsigned)mask);
    fprintf(out, "group %d, session %d\n", getpgrp(), getsid(0));
    errno = 0;
    fprintf(out, "nice %d\n", getpriority(PRIO_PROCESS, 0));
    fprintf(out, "scheduler %d\n", sched_getscheduler(0));
    for (int i = 0; i < RLIM_NLIMITS; i++) {
        struct rlimit limit = {0, 0};
        getrlimit(i, &limit);
        fprintf(out, "limit %d: %lld, %lld\n", i, (long long)limit.rlim_cur,
                (long long)limit.rlim_max);
    }
    int death = 0, reaper = 0;
    prctl(PR_GET_PDEATHSIG, &death);
    prctl(PR_GET_CHILD_SUBREAPER, &reaper);
    fprintf(out, "death signal %d, subreaper %d, dumpable %d, timer slack %d\n", death, reaper,
            prctl(PR_GET_DUMPABLE), prctl(PR_GET_TIMERSLACK));
    int terminal = open("/dev/tty", O_RDWR | O_NOCTTY);
    fprintf(out, "terminal %s\n", terminal < 0 ? "none" : "yes");
    if (terminal >= 0)
        fprintf(out, "foreground %s\n", tcgetpgrp(terminal) == getpgrp() ? "yes" : "no");
    status(out);
    fclose(out);
    umask(mask);
    unlink(argv[1]);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0 || fchmod(fd, 0666) || write(fd, text, size) != (ssize_t)size) return 3;
    return 7;
}
