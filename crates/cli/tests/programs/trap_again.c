/* trap_again PORT: looks whether a port is free by binding it, closes it and binds it again, as
 * many programs do before they serve.
 */
#include "trap.h"

static void again(const char *what, int type, int port) {
    int worst = 0;
    const char *is_shared = "-";
    for (int i = 0; i < 200; i++) {
        int fd = socket(AF_INET, type, 0);
        int result = bind_to(fd, loopback(port));
        if (!result && type == SOCK_STREAM && i % 2) result = listen(fd, 1) ? errno : 0;
        if (result) worst = result;
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
