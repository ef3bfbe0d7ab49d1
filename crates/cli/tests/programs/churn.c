/* Binds a TCP port and closes it, COUNT times; listens every second time.
 *
 * churn COUNT PORT
 *
 * Prints "progress" to stderr every 1,000 binds, and "done" at the end. Exits with 1 and the error of the first call that fails.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *call) {
    fprintf(stderr, "%s: %s\n", call, strerror(errno));
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(atoi(argv[2])),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    for (int i = 0; i < atoi(argv[1]); i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (fd < 0) fail("socket");
        if (bind(fd, (void *)&address, sizeof address)) fail("bind");
        if (i % 2 && listen(fd, 16)) fail("listen");
        close(fd);
        if (i % 1000 == 999) fputs("progress\n", stderr);
    }
    puts("done");
    return 0;
}
