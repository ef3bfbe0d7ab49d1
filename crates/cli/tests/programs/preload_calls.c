/* The state that a preloaded library must not change. Each mode prints the state on stdout.
 *
 * bind tcp|udp IP PORT     one bind, and the state of the socket
 * read-only IP PORT        the same with the address in read-only memory
 * send tcp|udp|sendto|twice|own IP PORT   sends `hello` and prints its source address
 * errno PORT CLOSED        errno before and after calls that succeed and fail
 * descriptors PORT         the open descriptors, before and after
 * signal PORT              binds in a signal handler on a small stack during another bind
 * environment PORT         binds after the environment was overwritten
 * threads N PORT           N threads bind one port, each its own address
 * rivals N PORT            N threads bind one address
 */
#define BY_LIBC
#include "trap.h"
#include <dirent.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/time.h>

static struct sockaddr_storage address;
static socklen_t length;

static void read_address(const char *ip, const char *port) {
    struct sockaddr_in *v4 = (void *)&address;
    struct sockaddr_in6 *v6 = (void *)&address;
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(atoi(port));
        length = sizeof *v4;
    } else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(atoi(port));
        length = sizeof *v6;
    } else {
        exit(2);
    }
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, level, name, &value, &size);
    return value;
}

static void say_name(int fd) {
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    char text[64] = "?";
    int port = 0;
    getsockname(fd, (void *)&name, &size);
    if (name.ss_family == AF_INET) {
        inet_ntop(AF_INET, &((struct sockaddr_in *)&name)->sin_addr, text, sizeof text);
        port = ntohs(((struct sockaddr_in *)&name)->sin_port);
    } else {
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&name)->sin6_addr, text, sizeof text);
        port = ntohs(((struct sockaddr_in6 *)&name)->sin6_port);
    }
    printf("%s %d", text, port);
}

static void one_bind(int type, const void *at) {
    int fd = socket(address.ss_family, type, 0);
    if (type == SOCK_DGRAM) {
        int on = 1;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    }
    int result = bind(fd, at, length) ? errno : 0;
    printf("%s ", result ? strerrorname_np(result) : "0");
    say_name(fd);
    int level = address.ss_family == AF_INET ? SOL_IP : SOL_IPV6;
    printf(" port=%d address=%d transparent=%d\n", option(fd, SOL_SOCKET, SO_REUSEPORT),
           option(fd, SOL_SOCKET, SO_REUSEADDR),
           option(fd, level, level == SOL_IP ? IP_TRANSPARENT : IPV6_TRANSPARENT));
}

static void read_only(void) {
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, &address, length);
    mprotect(page, 4096, PROT_READ);
    one_bind(SOCK_STREAM, page);
    printf("%s\n", memcmp(page, &address, length) ? "changed" : "unchanged");
}

static void send_hello(const char *how) {
    int is_tcp = strcmp(how, "udp") && strcmp(how, "sendto") && strcmp(how, "twice");
    int fd = socket(address.ss_family, is_tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    int result = 0;
    if (!strcmp(how, "own")) {
        struct sockaddr_in own = loopback(0);
        own.sin_addr.s_addr = inet_addr("127.0.0.99");
        if (bind(fd, (void *)&own, sizeof own)) exit(3);
    }
    if (!strcmp(how, "sendto") || !strcmp(how, "twice")) {
        for (int i = 0; i < (strcmp(how, "twice") ? 1 : 2); i++)
            if (sendto(fd, "hello", 5, 0, (void *)&address, length) != 5) result = errno;
    } else if (connect(fd, (void *)&address, length)) {
        result = errno;
    } else if (send(fd, "hello", 5, 0) != 5) {
        result = errno;
    }
    printf("%s ", result ? strerrorname_np(result) : "0");
    say_name(fd);
    printf("\n");
    fflush(stdout);
    char byte;
    if (is_tcp && !result && read(fd, &byte, 1) < 0) exit(3);
}

static void check_errno(int port, int closed) {
    int first = tcp(), second = socket(AF_INET, SOCK_STREAM, 0), third = tcp();
    struct sockaddr_in at = loopback(port), nobody = loopback(closed), strange = at;
    errno = 1234;
    int result = bind(first, (void *)&at, sizeof at);
    printf("bind %d %d\n", result, errno);
    errno = 1234;
    result = connect(third, (void *)&nobody, sizeof nobody);
    printf("connect %d %s\n", result, strerrorname_np(errno));
    strange.sin_addr.s_addr = inet_addr("192.0.2.1");
    errno = 1234;
    result = bind(second, (void *)&strange, sizeof strange);
    printf("strange %d %s\n", result, strerrorname_np(errno));
    errno = 1234;
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    result = sendto(udp, "x", 1, 0, (void *)&nobody, sizeof nobody);
    printf("sendto %d %d\n", result, errno);
}

static int open_descriptors(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder)) count++;
    closedir(folder);
    return count;
}

static void descriptors(int port) {
    int before = open_descriptors();
    for (int i = 0; i < 200; i++) {
        int fd = tcp(), udp = socket(AF_INET, SOCK_DGRAM, 0);
        struct sockaddr_in at = numbered(i, port);
        bind(fd, (void *)&at, sizeof at);
        bind(fd, (void *)&at, sizeof at);
        sendto(udp, "x", 1, 0, (void *)&at, sizeof at);
        close(fd);
        close(udp);
        /* The lowest free number is the same as without the library. */
        fd = tcp();
        if (fd != 3) printf("number %d\n", fd);
        close(fd);
    }
    printf("%d more\n", open_descriptors() - before);
}

static int signal_port;
static volatile sig_atomic_t in_handler, wrong;

static void on_signal(int signal) {
    (void)signal;
    int saved = errno, fd = tcp();
    struct sockaddr_in at = numbered(300, signal_port);
    if (bind(fd, (void *)&at, sizeof at) || strcmp(shared(fd), "yes")) wrong++;
    close(fd);
    in_handler++;
    errno = saved;
}

static void in_signal_handler(int port) {
    signal_port = port;
#ifdef _SC_MINSIGSTKSZ
    size_t size = sysconf(_SC_MINSIGSTKSZ) + 4096;
#else
    size_t size = SIGSTKSZ;
#endif
    stack_t small = {.ss_sp = malloc(size), .ss_size = size};
    sigaltstack(&small, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; in_handler < 200 && i < 1000000; i++) {
        int fd = tcp();
        struct sockaddr_in at = numbered(301, port);
        errno = 77;
        if (bind(fd, (void *)&at, sizeof at) || errno != 77 || strcmp(shared(fd), "yes")) wrong++;
        close(fd);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%s, %d wrong\n", in_handler >= 200 ? "200 signals" : "too few signals", (int)wrong);
}

static void overwritten_environment(int port) {
    extern char **environ;
    for (char **each = environ; *each; each++) memset(*each, 'x', strlen(*each));
    environ[0] = NULL;
    environ = NULL;
    plain("overwritten", loopback(port));
}

static int threads_failed, threads_port, are_rivals;
static pthread_barrier_t barrier;

static void *bind_together(void *number) {
    int fd = tcp();
    pthread_barrier_wait(&barrier);
    struct sockaddr_in at = numbered(are_rivals ? 513 : 513 + (intptr_t)number, threads_port);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 8))
        __atomic_add_fetch(&threads_failed, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void many_threads(int count, int port) {
    pthread_t thread[128];
    if (count > 128) exit(2);
    threads_port = port;
    pthread_barrier_init(&barrier, NULL, count);
    for (int i = 0; i < count; i++)
        pthread_create(&thread[i], NULL, bind_together, (void *)(intptr_t)i);
    for (int i = 0; i < count; i++) pthread_join(thread[i], NULL);
    printf("%d failed\n", threads_failed);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *mode = argv[1];
    if (!strcmp(mode, "bind") && argc == 5) {
        read_address(argv[3], argv[4]);
        one_bind(strcmp(argv[2], "udp") ? SOCK_STREAM : SOCK_DGRAM, &address);
    } else if (!strcmp(mode, "read-only") && argc == 4) {
        read_address(argv[2], argv[3]);
        read_only();
    } else if (!strcmp(mode, "send") && argc == 5) {
        read_address(argv[3], argv[4]);
        send_hello(argv[2]);
    } else if (!strcmp(mode, "errno") && argc == 4) {
        check_errno(atoi(argv[2]), atoi(argv[3]));
    } else if (!strcmp(mode, "descriptors")) {
        descriptors(atoi(argv[2]));
    } else if (!strcmp(mode, "signal")) {
        in_signal_handler(atoi(argv[2]));
    } else if (!strcmp(mode, "environment")) {
        overwritten_environment(atoi(argv[2]));
    } else if ((!strcmp(mode, "threads") || !strcmp(mode, "rivals")) && argc == 4) {
        are_rivals = !strcmp(mode, "rivals");
        many_threads(atoi(argv[2]), atoi(argv[3]));
    } else {
        return 2;
    }
    return 0;
}
