/* Shared by every trap_*.c. Each prints a line a case on stdout:
 *
 *     CASE RESULT SHARED
 *
 * RESULT is 0 or the errno's name, SHARED whether the socket has SO_REUSEPORT (`-`: no socket).
 * The test compares the output without `sameport run` and under it.
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

/* 127.1.N/256.N: an address for each thread or process of a trap. */
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

/* bind(2) as a raw system call with any arguments: 0 or an errno. With BY_LIBC, the function of the C
 * library, which a preloaded library can intercept. */
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

/* Binds a new socket, and prints the case. */
__attribute__((unused)) static void plain(const char *what, struct sockaddr_in at) {
    int fd = tcp();
    int result = bind_to(fd, at);
    tell(what, result, shared(fd));
    close(fd);
}
