/* trap_rebind PORT: tests whether a port is free by binding and closing it, and binds it again, as
 * many servers do.
 *
 * Readers of /proc/PID/fd, such as other tests, hold a socket a little longer than the program, so a few
 * of the 200 binds can fail. A supervisor that keeps the socket makes most of them fail.
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
