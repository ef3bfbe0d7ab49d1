/* Makes one bind or one connection, and prints the result as a line:
 *
 *   given IP PORT reuseaddr=N reuseport=N       getsockname and getsockopt
 *   refused CALL ERRNO                          the number of the errno
 *
 * cgroup_binds bind KIND IP PORT [v6only] [ra] [rp] [ring] [listen]
 *   KIND    tcp, udp, udplite, mptcp or raw
 *   ra, rp  sets SO_REUSEADDR, SO_REUSEPORT first
 *   ring    binds by IORING_OP_BIND
 *   listen  listens, and answers every connection with its pid until a signal
 * cgroup_binds late KIND IP PORT [...]     the same on SIGUSR1, with a socket created then
 * cgroup_binds early KIND IP PORT [...]    the same on SIGUSR1, with a socket created at the start
 * cgroup_binds send KIND IP PORT [IP PORT] connects and sends a byte; bound first to the second pair
 *   KIND    also `datagram`: UDP without connect
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Missing from older headers. */
enum { OP_BIND = 56, PROTO_MPTCP = 262, PROTO_UDPLITE = 136 };

static void refused(const char *call, int why) {
    printf("refused %s %d\n", call, why);
    fflush(stdout);
    exit(0);
}

static socklen_t parse(const char *ip, const char *port, struct sockaddr_storage *address) {
    struct sockaddr_in *v4 = (void *)address;
    struct sockaddr_in6 *v6 = (void *)address;
    memset(address, 0, sizeof *address);
    v4->sin_port = htons(atoi(port));
    if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
        address->ss_family = AF_INET;
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, ip, &v6->sin6_addr) != 1) exit(2);
    address->ss_family = AF_INET6;
    return sizeof *v6;
}

static int make(const char *kind, int family) {
    int fd = -1;
    if (!strcmp(kind, "tcp")) fd = socket(family, SOCK_STREAM, 0);
    if (!strcmp(kind, "mptcp")) fd = socket(family, SOCK_STREAM, PROTO_MPTCP);
    if (!strcmp(kind, "udp") || !strcmp(kind, "datagram")) fd = socket(family, SOCK_DGRAM, 0);
    if (!strcmp(kind, "udplite")) fd = socket(family, SOCK_DGRAM, PROTO_UDPLITE);
    if (!strcmp(kind, "raw")) fd = socket(family, SOCK_RAW, IPPROTO_UDP);
    if (fd < 0) refused("socket", errno);
    return fd;
}

static int option(int fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
}

static void given(int fd) {
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    char ip[INET6_ADDRSTRLEN];
    if (getsockname(fd, (void *)&own, &size)) refused("getsockname", errno);
    struct sockaddr_in *v4 = (void *)&own;
    struct sockaddr_in6 *v6 = (void *)&own;
    int is_v4 = own.ss_family == AF_INET;
    inet_ntop(own.ss_family, is_v4 ? (void *)&v4->sin_addr : (void *)&v6->sin6_addr, ip, sizeof ip);
    printf("given %s %d reuseaddr=%d reuseport=%d\n", ip, ntohs(is_v4 ? v4->sin_port : v6->sin6_port),
           option(fd, SO_REUSEADDR), option(fd, SO_REUSEPORT));
    fflush(stdout);
}

/* Makes one request through io_uring, without liburing. */
static int ring_bind(int fd, void *address, socklen_t length) {
    struct io_uring_params params = {0};
    int ring = syscall(SYS_io_uring_setup, 4, &params);
    if (ring < 0) refused("io_uring_setup", errno);
    size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    size_t other = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    char *rings = mmap(NULL, size > other ? size : other, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
    struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry,
                                      PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
    if (rings == MAP_FAILED || entry == MAP_FAILED) refused("mmap", errno);
    *entry = (struct io_uring_sqe){.opcode = OP_BIND, .fd = fd};
    entry->addr = (unsigned long)address;
    entry->addr2 = length;
    *(unsigned *)(rings + params.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, 1, NULL, 0) != 1) refused("io_uring_enter", errno);
    int result = ((struct io_uring_cqe *)(rings + params.cq_off.cqes))->res;
    errno = -result;
    return result < 0 ? -1 : 0;
}

static void bind_it(int fd, char **argv) {
    struct sockaddr_storage address;
    socklen_t length = parse(argv[0], argv[1], &address);
    int on = 1, ring = 0, listening = 0;
    for (char **word = argv + 2; *word; word++) {
        int failed = 0;
        if (!strcmp(*word, "v6only")) failed = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (!strcmp(*word, "ra")) failed = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (!strcmp(*word, "rp")) failed = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
        if (failed) refused("setsockopt", errno);
        ring |= !strcmp(*word, "ring");
        listening |= !strcmp(*word, "listen");
    }
    if (ring ? ring_bind(fd, &address, length) : bind(fd, (void *)&address, length))
        refused("bind", errno);
    if (listening && listen(fd, 64)) refused("listen", errno);
    given(fd);
    while (listening) {
        char text[32];
        int client = accept(fd, NULL, NULL);
        if (client < 0) continue;
        if (write(client, text, sprintf(text, "%d\n", (int)getpid())) < 0) perror("write");
        close(client);
    }
}

static void wait_for_signal(void) {
    int number;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    puts("ready");
    fflush(stdout);
    sigwait(&set, &number);
}

int main(int argc, char **argv) {
    struct sockaddr_storage to, from;
    if (argc < 5) return 2;
    socklen_t length = parse(argv[3], argv[4], &to);
    int early = strcmp(argv[1], "late") ? make(argv[2], to.ss_family) : -1;
    if (!strcmp(argv[1], "late") || !strcmp(argv[1], "early")) wait_for_signal();
    int fd = early < 0 ? make(argv[2], to.ss_family) : early;
    if (strcmp(argv[1], "send")) {
        bind_it(fd, argv + 3);
        return 0;
    }
    if (argc > 6) {
        socklen_t own = parse(argv[5], argv[6], &from);
        if (bind(fd, (void *)&from, own)) refused("bind", errno);
    }
    if (!strcmp(argv[2], "datagram")) {
        if (sendto(fd, "x", 1, 0, (void *)&to, length) != 1) refused("sendto", errno);
    } else {
        if (connect(fd, (void *)&to, length)) refused("connect", errno);
        if (send(fd, "x", 1, MSG_NOSIGNAL) != 1) refused("send", errno);
    }
    given(fd);
    return 0;
}
