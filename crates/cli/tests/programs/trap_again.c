/* trap_again PORT: looks whether a port is free by binding it, closes it and binds it again, as
 * many programs do before they serve.
 *
 * Who reads /proc/PID/fd, as other tests do, has a socket for an instant longer than the program, so
 * a few of the 200 may be refused. What is kept until somebody looks at it is in the way of most.
 */
#include "trap.h"

static void again(const char *what, int type, int port) {
    int worst = 0, refused = 0;
    const char *is_shared = "-";
    for (int i = 0; i < 200; i++) {
        int fd = socket(AF_INET, type, 0);
        int result = bind_to(fd, loopback(port));
        if (!result && type == SOCK_STREAM && i % 2) result = listen(fd, 1) ? errno : 0;
        if (result && (result != EADDRINUSE || ++refused > 5)) worst = result;
        is_shared = shared(fd);
        close(fd);
    }
    tell(what, worst, is_shared);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    again("tcp-again", SOCK_STREAM, atoi(argv[1]));
    again("udp-again", SOCK_DGRAM, atoi(argv[1]));
    return 0;
}
