/* Binds (and listens), then prints the socket options after the bind, a line a port:
 *
 *   8080 reuseaddr=1 reuseport=0
 *
 * with the requested port, and waits for a signal.
 *
 * bound tcp|udp IP PORT[,PORT...] [ra] [rp]
 *   ra   sets SO_REUSEADDR before bind
 *   rp   sets SO_REUSEPORT before bind
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *call, const char *port) {
    fprintf(stderr, "%s: port %s: %s\n", call, port, strerror(errno));
    exit(1);
}

static int option(int fd, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(fd, SOL_SOCKET, name, &value, &size);
    return value;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int type = strcmp(argv[1], "udp") ? SOCK_STREAM : SOCK_DGRAM, on = 1;
    for (char *port = strtok(argv[3], ","); port; port = strtok(NULL, ",")) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
        if (inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) return 2;
        int fd = socket(AF_INET, type, 0);
        if (fd < 0) fail("socket", port);
        for (int i = 4; i < argc; i++) {
            int name = strcmp(argv[i], "ra") ? SO_REUSEPORT : SO_REUSEADDR;
            if (setsockopt(fd, SOL_SOCKET, name, &on, sizeof on)) fail("setsockopt", port);
        }
        if (bind(fd, (void *)&address, sizeof address)) fail("bind", port);
        if (type == SOCK_STREAM && listen(fd, 128)) fail("listen", port);
        printf("%s reuseaddr=%d reuseport=%d\n", port, option(fd, SO_REUSEADDR),
               option(fd, SO_REUSEPORT));
        fflush(stdout);
    }
    for (;;) pause();
}
