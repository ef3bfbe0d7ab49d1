/* trap_address PORT: every kind of wrong sockaddr, length and descriptor. */
#include "trap.h"
#include <fcntl.h>
#include <sys/mman.h>

static void with(const char *what, const void *address, unsigned long length) {
    int fd = tcp();
    int result = bind_raw(fd, address, length);
    tell(what, result, shared(fd));
    close(fd);
}

static void at_page_end(const char *what, struct sockaddr_in good, size_t before_end) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *at = pages + 4096 - before_end;
    memcpy(at, &good, sizeof good);
    munmap(pages + 4096, 4096);
    with(what, at, sizeof good);
    munmap(pages, 4096);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int port = atoi(argv[1]);
    struct sockaddr_in good = loopback(port), other = good;
    char long_one[256] = {0};
    memcpy(long_one, &good, sizeof good);

    with("good", &good, sizeof good);
    with("null", NULL, sizeof good);
    with("unmapped", (void *)16, sizeof good);
    with("kernel-address", (void *)0xffffffff81000000ul, sizeof good);
    with("non-canonical", (void *)0x8000000000000000ul, sizeof good);
    void *closed = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    with("protected", closed, sizeof good);
    at_page_end("page-end", good, sizeof good);
    at_page_end("across-page-end", good, 8);

    with("null-and-length-0", NULL, 0);
    with("length-0", &good, 0);
    with("length-1", &good, 1);
    with("length-15", &good, 15);
    with("length-17", long_one, 17);
    with("length-128", long_one, 128);
    with("length-129", long_one, 129);
    with("length-minus-1", &good, -1ul);
    with("length-int-min", &good, 0x80000000ul);
    with("length-int-max", &good, 0x7ffffffful);
    with("length-above-32-bits", &good, 0x100000010ul);

    other = good;
    other.sin_family = AF_UNSPEC;
    with("unspec-loopback", &other, sizeof other);
    other.sin_addr.s_addr = INADDR_ANY;
    with("unspec-any", &other, sizeof other);
    other = good;
    other.sin_family = AF_UNIX;
    with("unix-on-tcp", &other, sizeof other);
    other.sin_family = 0xffff;
    with("family-65535", &other, sizeof other);
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    with("v6-on-v4", &v6, sizeof v6);
    other = good;
    other.sin_addr.s_addr = inet_addr("192.0.2.1");
    with("not-local", &other, sizeof other);
    other = good;
    other.sin_port = 0;
    with("port-0", &other, sizeof other);

    int fd = socket(AF_INET6, SOCK_STREAM, 0);
    v6.sin6_addr = in6addr_loopback;
    int result = bind_raw(fd, &v6, 24);
    tell("v6-without-scope", result, shared(fd));
    close(fd);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    result = bind_raw(fd, &v6, 23);
    tell("v6-too-short", result, shared(fd));
    close(fd);

    fd = open("/dev/null", O_RDONLY);
    tell("no-socket", bind_to(fd, good), shared(fd));
    close(fd);
    fd = open("/", O_PATH);
    tell("path-only", bind_to(fd, good), shared(fd));
    close(fd);
    tell("closed", bind_to(fd, good), shared(fd));
    tell("minus-1", bind_to(-1, good), shared(-1));
    tell("int-min", bind_raw(0x80000000ul, &good, sizeof good), shared(-1));
    tell("int-max", bind_raw(0x7ffffffful, &good, sizeof good), shared(-1));

    fd = tcp();
    result = bind_raw(0x100000000ul | (unsigned)fd, &good, sizeof good);
    tell("descriptor-above-32-bits", result, shared(fd));
    tell("twice", bind_to(fd, good), shared(fd));
    close(fd);

    plain("after", good);
    return 0;
}
