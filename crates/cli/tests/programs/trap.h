/* What every trap_*.c uses. Each says on stdout, a line a case, what it saw:
 *
 *     CASE RESULT SHARED
 *
 * RESULT is 0 or the errno's name, SHARED whether the socket has SO_REUSEPORT (`-`: no socket).
 * The test compares the lines of a bare run and of one under `sameport run`.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* 127.1.N/256.N: every thread or process of a trap can have an address of its own. */
__attribute__((unused)) static struct sockaddr_in numbered(unsigned n, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl((127u << 24) + (1u << 16) + n);
    return at;
}

__attribute__((unused)) static struct sockaddr_in loopback(int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

/* bind(2) by its registers, without the C library's types in between: 0 or an errno. With BY_LIBC,
 * by the library's function, where a preloaded one stands in front of it. */
__attribute__((unused)) static int bind_raw(unsigned long fd, const void *at, unsigned long size) {
#ifdef BY_LIBC
    return bind(fd, (const struct sockaddr *)at, size) ? errno : 0;
#else
    return syscall(SYS_bind, fd, at, size) ? errno : 0;
#endif
}

__attribute__((unused)) static int bind_to(int fd, struct sockaddr_in at) {
    return bind_raw(fd, &at, sizeof at);
}

__attribute__((unused)) static int tcp(void) { return socket(AF_INET, SOCK_STREAM, 0); }

__attribute__((unused)) static const char *shared(int fd) {
    int value = 0;
    socklen_t size = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &size)) return "-";
    return value ? "yes" : "no";
}

__attribute__((unused)) static void tell(const char *what, int result, const char *is_shared) {
    printf("%s %s %s\n", what, result ? strerrorname_np(result) : "0", is_shared);
    fflush(stdout);
}

/* A bind of a fresh socket, told. */
__attribute__((unused)) static void plain(const char *what, struct sockaddr_in at) {
    int fd = tcp();
    int result = bind_to(fd, at);
    tell(what, result, shared(fd));
    close(fd);
}
