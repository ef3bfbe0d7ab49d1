/* trap_syscalls PORT: binds by other system calls: i386, x32, io_uring. */
#include "trap.h"
#include <linux/io_uring.h>
#include <stdint.h>
#include <sys/mman.h>

#define OP_BIND 56 /* IORING_OP_BIND, Linux 6.11; not in older headers */

#ifdef __x86_64__
static long i386(uint32_t number, uint32_t a, uint32_t b, uint32_t c) {
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

static void foreign(int port) {
    /* Pointers below 4 GiB. */
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    struct sockaddr_in at = loopback(port);
    memcpy(low, &at, sizeof at);
    uint32_t address = (uint32_t)(uintptr_t)low, words = address + 64;

    int fd = tcp();
    long result = i386(361, fd, address, sizeof at);
    tell("i386-bind", -result, shared(fd));
    close(fd);

    fd = tcp();
    uint32_t arguments[] = {fd, address, sizeof at};
    memcpy(low + 64, arguments, sizeof arguments);
    result = i386(102, 2, words, 0);
    tell("i386-socketcall", -result, shared(fd));
    uint32_t listening[] = {fd, 5};
    memcpy(low + 64, listening, sizeof listening);
    tell("i386-socketcall-listen", -i386(102, 4, words, 0), shared(fd));
    close(fd);
    fd = tcp();
    tell("i386-socketcall-unreadable", -i386(102, 2, 16, 0), shared(fd));
    tell("i386-getpid", i386(20, 0, 0, 0) == getpid() ? 0 : EPROTO, "-");
    close(fd);

    fd = tcp();
    result = syscall(SYS_bind | 0x40000000, fd, &at, sizeof at) ? errno : 0;
    tell("x32-bind", result, result ? "-" : shared(fd));
    close(fd);
}
#endif

/* One request through io_uring: its result, or the errno of io_uring_setup. */
static int ring_bind(int fd, const struct sockaddr_in *at, int *setup) {
    struct io_uring_params params = {0};
    int ring = syscall(SYS_io_uring_setup, 4, &params);
    *setup = ring < 0 ? errno : 0;
    if (ring < 0) return 0;
    size_t length = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    size_t other = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    if (other > length) length = other;
    char *rings = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0);
    struct io_uring_sqe *entry = mmap(NULL, params.sq_entries * sizeof *entry,
                                      PROT_READ | PROT_WRITE, MAP_SHARED, ring, 0x10000000);
    *entry = (struct io_uring_sqe){.opcode = OP_BIND, .fd = fd};
    entry->addr = (uint64_t)(uintptr_t)at;
    entry->off = sizeof *at;
    *(unsigned *)(rings + params.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(rings + params.sq_off.tail), 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, 1, NULL, 0) != 1) return errno;
    return -((struct io_uring_cqe *)(rings + params.cq_off.cqes))->res;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int port = atoi(argv[1]);
#ifdef __x86_64__
    foreign(port);
#endif
    int fd = tcp(), setup;
    /* Unshared, so on another address than the shared socket before. */
    struct sockaddr_in at = numbered(0, port);
    int result = ring_bind(fd, &at, &setup);
    tell("io_uring_setup", setup, "-");
    if (!setup) tell("io_uring-bind", result, shared(fd));
    close(fd);
    plain("after", loopback(port));
    return 0;
}
