/* Binds a port by one call, and prints the result as a line:
 *
 *   given PORT            the port that getsockname returns
 *   refused CALL ERRNO    the number of the errno
 *   absent WHAT ERRNO     this kernel lacks it
 *
 * guard_binds CALL PORT [DIRECTORY]   the calls are the names at the end of this file; DIRECTORY
 *                                    is another cgroup
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Missing from older headers. */
enum { OP_BIND = 56, PROTO_MPTCP = 262, PROTO_UDPLITE = 136, NO_PORT = 24, PORT_RANGE = 51 };

static int port;
static const char *directory;
/* Static, because the 32-bit call takes an address below 4 GiB. */
static struct sockaddr_storage address;
static unsigned words[3];

static void ended(const char *what, const char *call, int why) {
    printf("%s %s %d\n", what, call, why);
    fflush(stdout);
    exit(0);
}

static void need(int good, const char *call) {
    if (!good) ended("refused", call, errno);
}

static void have(int good, const char *what) {
    if (!good) ended("absent", what, errno);
}

static socklen_t at(const char *ip, int number) {
    struct sockaddr_in *v4 = (void *)&address;
    struct sockaddr_in6 *v6 = (void *)&address;
    memset(&address, 0, sizeof address);
    v4->sin_port = htons(number);
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        address.ss_family = AF_INET;
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) != 1) exit(2);
    address.ss_family = AF_INET6;
    return sizeof *v6;
}

static int made(int family, int type, int protocol) {
    int fd = socket(family, type, protocol);
    have(fd >= 0, "socket");
    return fd;
}

static void on(int fd, int level, int name) {
    int value = 1;
    have(!setsockopt(fd, level, name, &value, sizeof value), "setsockopt");
}

static void given(int fd) {
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    need(!getsockname(fd, (void *)&own, &size), "getsockname");
    printf("given %d\n", ntohs(((struct sockaddr_in *)&own)->sin_port));
    fflush(stdout);
    exit(0);
}

/* The usual calls, with any address. */
static void plain(int fd, const char *ip) {
    socklen_t length = at(ip, port);
    need(!bind(fd, (void *)&address, length), "bind");
    given(fd);
}

static void tcp(const char *ip) {
    plain(made(strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_STREAM, 0), ip);
}

static void udp(const char *ip) {
    plain(made(strchr(ip, ':') ? AF_INET6 : AF_INET, SOCK_DGRAM, 0), ip);
}

/* A bind through io_uring, without liburing. */
static void ring(int type, unsigned flags) {
    struct io_uring_params params = {.flags = flags, .sq_thread_idle = 1000};
    int fd = made(AF_INET, type, 0), ring = syscall(SYS_io_uring_setup, 4, &params);
    have(ring >= 0, "io_uring_setup");
    size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    size_t other = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    char *rings = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
    struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry,
                                      PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (rings == MAP_FAILED || entry == MAP_FAILED) exit(2);
    *entry = (struct io_uring_sqe){.opcode = OP_BIND, .fd = fd};
    entry->addr2 = at("127.0.0.1", port);
    entry->addr = (unsigned long)&address;
    *(unsigned *)(rings + params.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    unsigned enter = IORING_ENTER_GETEVENTS | (flags ? IORING_ENTER_SQ_WAKEUP : 0);
    if (syscall(SYS_io_uring_enter, ring, flags ? 0 : 1, 1, enter, NULL, 0) < 0) exit(2);
    errno = -((struct io_uring_cqe *)(rings + params.cq_off.cqes))->res;
    have(errno != EINVAL, "IORING_OP_BIND");
    need(!errno, "bind");
    given(fd);
}

static void no_such_call(int number) {
    (void)number;
    static const char text[] = "absent int80 38\n";
    if (write(1, text, sizeof text - 1) < 0) _exit(2);
    _exit(0);
}

/* A 32-bit system call, which any 64-bit program can make. */
static void old_gate(int call, int fd, socklen_t length) {
#ifdef __x86_64__
    int result;
    unsigned a = fd, b = (unsigned)(uintptr_t)&address, c = length;
    signal(SIGSEGV, no_such_call);
    if ((uintptr_t)&address > UINT32_MAX) exit(2);
    if (call == 102) {
        words[0] = fd;
        words[1] = b;
        words[2] = length;
        a = 2; /* SYS_BIND */
        b = (unsigned)(uintptr_t)words;
    }
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(call), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    errno = -result;
    have(errno != ENOSYS, "int80");
    need(result == 0, "bind");
    given(fd);
#else
    (void)call, (void)fd, (void)length;
    errno = ENOSYS;
    have(0, "int80");
#endif
}

/* Leaves the kernel no other port to pick for this socket. */
static void narrow(int fd) {
    unsigned range = (unsigned)port << 16 | (unsigned)port;
    have(!setsockopt(fd, IPPROTO_IP, PORT_RANGE, &range, sizeof range), "IP_LOCAL_PORT_RANGE");
}

/* The same for every socket of this network namespace. */
static void narrow_all(void) {
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "w");
    if (!file || fprintf(file, "%d %d\n", port, port) < 0 || fclose(file)) exit(2);
}

static int listener(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    socklen_t length = at("127.0.0.9", 9);
    if (bind(fd, (void *)&address, length) || listen(fd, 8)) exit(2);
    return fd;
}

static void autobind(int type, int by_option, const char *call) {
    int fd = made(AF_INET, type, 0);
    if (type == SOCK_STREAM && !strcmp(call, "connect")) listener();
    if (by_option) narrow(fd);
    else narrow_all();
    if (!strcmp(call, "listen")) need(!listen(fd, 8), call);
    if (!strcmp(call, "bind")) {
        socklen_t length = at("0.0.0.0", 0);
        need(!bind(fd, (void *)&address, length), call);
    }
    socklen_t length = at("127.0.0.9", 9);
    if (!strcmp(call, "connect")) need(!connect(fd, (void *)&address, length), call);
    if (!strcmp(call, "sendto")) need(sendto(fd, "x", 1, 0, (void *)&address, length) == 1, call);
    given(fd);
}

static void fast_open(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    listener();
    socklen_t length = at("127.0.0.1", port);
    need(!bind(fd, (void *)&address, length), "bind");
    length = at("127.0.0.9", 9);
    need(sendto(fd, "x", 1, MSG_FASTOPEN, (void *)&address, length) >= 0, "sendto");
    given(fd);
}

/* An address first, its port at connect: IP_BIND_ADDRESS_NO_PORT. */
static void late_port(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    listener();
    on(fd, IPPROTO_IP, NO_PORT);
    socklen_t length = at("127.0.0.1", 0);
    need(!bind(fd, (void *)&address, length), "bind");
    narrow(fd);
    length = at("127.0.0.9", 9);
    need(!connect(fd, (void *)&address, length), "connect");
    given(fd);
}

/* A socket created by a process of another user. */
static void passed(void) {
    int pair[2], fd = -1;
    char room[CMSG_SPACE(sizeof fd)] = {0}, byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) exit(2);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) _exit(2);
        fd = socket(AF_INET, SOCK_STREAM, 0);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
        _exit(sendmsg(pair[1], &message, 0) == 1 ? 0 : 2);
    }
    if (recvmsg(pair[0], &message, 0) != 1) exit(2);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    waitpid(child, NULL, 0);
    plain(fd, "0.0.0.0");
}

/* A socket created here, bound in the other cgroup. */
static void carried(void) {
    char path[4096];
    int fd = made(AF_INET, SOCK_STREAM, 0);
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "0\n") < 0 || fclose(file)) exit(2);
    plain(fd, "0.0.0.0");
}

static void *in_a_thread(void *nothing) {
    tcp("0.0.0.0");
    return nothing;
}

static void repaired(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    on(fd, IPPROTO_TCP, TCP_REPAIR);
    plain(fd, "127.0.0.1");
}

static void with(int type, int level, int name, const char *ip) {
    int fd = made(strchr(ip, ':') ? AF_INET6 : AF_INET, type, 0);
    on(fd, level, name);
    plain(fd, ip);
}

static void on_device(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    have(!setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3), "SO_BINDTODEVICE");
    plain(fd, "0.0.0.0");
}

static void unspecified(void) {
    int fd = made(AF_INET, SOCK_STREAM, 0);
    socklen_t length = at("0.0.0.0", port);
    address.ss_family = AF_UNSPEC;
    need(!bind(fd, (void *)&address, length), "bind");
    given(fd);
}

static void both_options(void) {
    int fd = made(AF_INET, SOCK_DGRAM, 0);
    on(fd, SOL_SOCKET, SO_REUSEADDR);
    on(fd, SOL_SOCKET, SO_REUSEPORT);
    plain(fd, "0.0.0.0");
}

static void in_a_user_namespace(void) {
    have(!unshare(CLONE_NEWUSER), "CLONE_NEWUSER");
    tcp("0.0.0.0");
}

/* Changes its own exe link by PR_SET_MM_MAP, which needs no privilege, only that no page of the old file
 * is mapped. */
static void claims(const char *path) {
    struct prctl_mm_map map = { .exe_fd = open(path, O_RDONLY) };
    struct { char *from; size_t size; int allowed; } part[16];
    char line[512], mode[8], file[256], own[256] = "";
    unsigned long from, to;
    int parts = 0;
    need(!setresuid(65533, 65533, 65533) && !prctl(PR_SET_DUMPABLE, 1), "setresuid");
    have(!unshare(CLONE_NEWUSER), "CLONE_NEWUSER");
    need(readlink("/proc/self/exe", own, sizeof own - 1) > 0, "readlink");
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps) && parts < 16) {
        file[0] = 0;
        sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, mode, file);
        if (strcmp(file, own)) continue;
        part[parts].from = (char *)from;
        part[parts].size = to - from;
        part[parts++].allowed = (mode[0] == 'r' ? PROT_READ : 0) |
                                (mode[1] == 'w' ? PROT_WRITE : 0) | (mode[2] == 'x' ? PROT_EXEC : 0);
    }
    for (int i = 0; i < parts; i++) {
        size_t size = part[i].size;
        char *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(copy, part[i].from, size);
        mprotect(copy, size, part[i].allowed);
        mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, part[i].from);
    }
    /* The other fields must be valid. */
    map.start_code = map.start_data = map.arg_start = map.env_start = (unsigned long)&port & ~4095ul;
    map.end_code = map.end_data = map.arg_end = map.env_end = map.start_code + 1;
    map.start_brk = map.brk = (unsigned long)sbrk(0);
    map.start_stack = (unsigned long)line;
    have(!prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0), "PR_SET_MM");
    tcp("0.0.0.0");
}

static void in_a_network_of_its_own(void) {
    have(!unshare(CLONE_NEWNET), "CLONE_NEWNET");
    tcp("0.0.0.0");
}

static void another_user(void) {
    if (setresgid(65533, 65533, 65533) || setresuid(65533, 65533, 65533)) exit(2);
    tcp("0.0.0.0");
}

/* Prints "ready" with the port bound, and listens on SIGUSR1. */
static void before(void) {
    int number, fd = made(AF_INET, SOCK_STREAM, 0);
    socklen_t length = at("127.0.0.1", port);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    need(!bind(fd, (void *)&address, length), "bind");
    puts("ready");
    fflush(stdout);
    sigwait(&set, &number);
    need(!listen(fd, 8), "listen");
    given(fd);
}

/* Binds in a loop until SIGTERM, then prints how often the bind succeeded and failed. */
static volatile sig_atomic_t over;
static void end(int number) {
    (void)number;
    over = 1;
}
static void storm(void) {
    long let = 0, refused = 0, tries = 0;
    signal(SIGTERM, end);
    puts("ready");
    fflush(stdout);
    while (!over) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        socklen_t length = at("127.0.0.1", port);
        if (!bind(fd, (void *)&address, length)) let++;
        else refused += errno == EPERM;
        tries++;
        close(fd);
    }
    printf("let %ld refused %ld of %ld\n", let, refused, tries);
    exit(0);
}

#define IS(name) !strcmp(way, name)

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const char *way = argv[1];
    port = atoi(argv[2]);
    directory = argv[3];
    if (!strncmp(way, "tcp/", 4)) tcp(way + 4);
    if (!strncmp(way, "udp/", 4)) udp(way + 4);
    if (IS("reuseaddr")) with(SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR, "0.0.0.0");
    if (IS("reuseport")) with(SOCK_STREAM, SOL_SOCKET, SO_REUSEPORT, "0.0.0.0");
    if (IS("udp reuseport")) with(SOCK_DGRAM, SOL_SOCKET, SO_REUSEPORT, "0.0.0.0");
    if (IS("udp reuseaddr")) with(SOCK_DGRAM, SOL_SOCKET, SO_REUSEADDR, "0.0.0.0");
    if (IS("udp both")) both_options();
    if (IS("v6only")) with(SOCK_STREAM, IPPROTO_IPV6, IPV6_V6ONLY, "::");
    if (IS("udp v6only")) with(SOCK_DGRAM, IPPROTO_IPV6, IPV6_V6ONLY, "::");
    if (IS("freebind")) with(SOCK_STREAM, IPPROTO_IP, IP_FREEBIND, "192.0.2.1");
    if (IS("v6 freebind")) with(SOCK_STREAM, IPPROTO_IPV6, 78, "2001:db8::1");
    if (IS("transparent")) with(SOCK_STREAM, IPPROTO_IP, IP_TRANSPARENT, "192.0.2.1");
    if (IS("udp transparent")) with(SOCK_DGRAM, IPPROTO_IP, IP_TRANSPARENT, "192.0.2.1");
    if (IS("device")) on_device();
    if (IS("unspecified")) unspecified();
    if (IS("mptcp")) plain(made(AF_INET, SOCK_STREAM, PROTO_MPTCP), "0.0.0.0");
    if (IS("v6 mptcp")) plain(made(AF_INET6, SOCK_STREAM, PROTO_MPTCP), "::");
    if (IS("udplite")) plain(made(AF_INET, SOCK_DGRAM, PROTO_UDPLITE), "0.0.0.0");
    if (IS("smc")) plain(made(43, SOCK_STREAM, 0), "0.0.0.0");
    if (IS("sctp")) plain(made(AF_INET, SOCK_STREAM, IPPROTO_SCTP), "0.0.0.0");
    if (IS("dccp")) plain(made(AF_INET, 6, 33), "0.0.0.0");
    if (IS("raw")) plain(made(AF_INET, SOCK_RAW, IPPROTO_UDP), "127.0.0.1");
    if (IS("repair")) repaired();
    if (IS("ring")) ring(SOCK_STREAM, 0);
    if (IS("udp ring")) ring(SOCK_DGRAM, 0);
    if (IS("ring thread")) ring(SOCK_STREAM, IORING_SETUP_SQPOLL);
    if (IS("int80 bind")) old_gate(361, made(AF_INET, SOCK_STREAM, 0), at("0.0.0.0", port));
    if (IS("int80 socketcall")) old_gate(102, made(AF_INET, SOCK_STREAM, 0), at("0.0.0.0", port));
    if (IS("fast open")) fast_open();
    if (IS("late port")) late_port();
    if (IS("passed")) passed();
    if (IS("carried")) carried();
    if (IS("user namespace")) in_a_user_namespace();
    if (!strncmp(way, "claims ", 7)) claims(way + 7);
    if (IS("network namespace")) in_a_network_of_its_own();
    if (IS("another user")) another_user();
    if (IS("before")) before();
    if (IS("storm")) storm();
    if (IS("thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, in_a_thread, NULL);
        pthread_join(thread, NULL);
    }
    if (!strncmp(way, "auto ", 5)) {
        /* auto tcp|udp option|range CALL */
        char protocol[8], by[8], call[8];
        if (sscanf(way, "auto %7s %7s %7s", protocol, by, call) != 3) return 2;
        autobind(protocol[0] == 't' ? SOCK_STREAM : SOCK_DGRAM, by[0] == 'o', call);
    }
    return 2;
}
