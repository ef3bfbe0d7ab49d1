/* Accepts every connection and keeps it until the client closes it: keeps PORT. Joins the group itself if it is
 * started without sameport. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void fail(const char *call) {
    fprintf(stderr, "%s: %s\n", call, strerror(errno));
    exit(1);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM, 0), events = epoll_create1(0), on = 1;
    if (argc < 2 || listener < 0 || events < 0) fail("keeps PORT");
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)) fail("bind");
    if (listen(listener, 512)) fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
    if (epoll_ctl(events, EPOLL_CTL_ADD, listener, &event)) fail("epoll_ctl");
    for (;;) {
        char byte[64];
        if (epoll_wait(events, &event, 1, -1) < 1) continue;
        if (event.data.fd != listener) {
            if (read(event.data.fd, byte, sizeof byte) < 1) close(event.data.fd);
            continue;
        }
        int client = accept(listener, NULL, NULL);
        event = (struct epoll_event){.events = EPOLLIN, .data.fd = client};
        if (client >= 0) epoll_ctl(events, EPOLL_CTL_ADD, client, &event);
    }
}
