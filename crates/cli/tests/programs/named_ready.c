/* An HTTP server whose readiness the files of a directory control: named_ready PORT DIRECTORY.
 *
 * The file `status` has the status of /healthz (200 without it, no response for `never`, an invalid one
 * for `wrong`). The file `quiet` delays READY=1. The file `less` leaves out PORT+1. Every other request
 * is answered with the pid.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static char *directory;

/* The length of the file of this name, or -1 if it does not exist. */
static int read_file(const char *what, char *text, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, what);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    ssize_t n = read(fd, text, size - 1);
    text[n < 0 ? 0 : n] = 0;
    close(fd);
    return 0;
}

static void *answer(void *socket) {
    int client = (int)(size_t)socket;
    char request[2048] = "", status[32] = "200", text[256];
    if (read(client, request, sizeof request - 1) > 0) {
        if (strstr(request, "/healthz")) read_file("status", status, sizeof status);
        if (!strcmp(status, "never")) sleep(60);
        int n = !strcmp(status, "wrong")
                    ? snprintf(text, sizeof text, "SSH-2.0-none\r\n\r\n")
                    : snprintf(text, sizeof text, "HTTP/1.1 %s X\r\n\r\n%d\n", status, (int)getpid());
        send(client, text, n, MSG_NOSIGNAL);
    }
    close(client);
    return NULL;
}

static void *serve(void *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((size_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (void *)&at, sizeof at) || listen(fd, 128)) {
        fprintf(stderr, "bind: %s\n", strerror(errno));
        exit(1);
    }
    for (;;) {
        int client = accept(fd, NULL, NULL);
        pthread_t id;
        if (client >= 0) pthread_create(&id, NULL, answer, (void *)(size_t)client);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    directory = argv[2];
    char text[32];
    size_t port = atoi(argv[1]);
    pthread_t id;
    pthread_create(&id, NULL, serve, (void *)port);
    if (read_file("less", text, sizeof text)) pthread_create(&id, NULL, serve, (void *)(port + 1));
    while (!read_file("quiet", text, sizeof text)) usleep(10000);
    char *name = getenv("NOTIFY_SOCKET");
    if (name) {
        struct sockaddr_un to = {.sun_family = AF_UNIX};
        strncpy(to.sun_path, name, sizeof to.sun_path - 1);
        size_t length = offsetof(struct sockaddr_un, sun_path) + strlen(name);
        if (name[0] == '@') to.sun_path[0] = 0;
        int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
        if (sendto(fd, "READY=1", 7, 0, (void *)&to, length) != 7) perror("sendto");
    }
    for (;;) pause();
}
