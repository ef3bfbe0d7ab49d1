/* Another preloaded library, which binds in its constructor, and unless ONLY_EARLY intercepts `bind`.
 * Prints the binds that it intercepts on stderr. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

__attribute__((constructor)) static void early(void) {
    const char *port = getenv("EARLY_PORT");
    if (!port) return;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), value = -1;
    socklen_t size = sizeof value;
    int result = bind(fd, (void *)&at, sizeof at);
    getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &value, &size);
    fprintf(stderr, "early %d port=%d\n", result, value);
    close(fd);
}

#ifndef ONLY_EARLY
int bind(int fd, const struct sockaddr *address, socklen_t length) {
    int (*next)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    if (address->sa_family == AF_INET)
        fprintf(stderr, "neighbour %d\n", ntohs(((struct sockaddr_in *)address)->sin_port));
    return next(fd, address, length);
}
#endif
