/* A server that answers every connection, or datagram, with its pid.
 *
 * who tcp|udp IP PORT [once|fork|thread|daemon|setrp|raw]
 *   fork    two forked children accept on the inherited socket
 *   thread  a second thread calls bind, listen and accept
 *   daemon  forks before bind, and the first process exits with 0
 *   setrp   sets SO_REUSEPORT itself
 *   raw     binds by syscall(2) instead of bind(3)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *mode;
static int type;
static struct sockaddr_storage address;
static socklen_t length;

static void fail(const char *call) {
    fprintf(stderr, "%s: %s\n", call, strerror(errno));
    exit(1);
}

static void serve(int fd) {
    char text[32];
    for (;;) {
        int n = snprintf(text, sizeof text, "%d\n", (int)getpid());
        if (type == SOCK_DGRAM) {
            struct sockaddr_storage from;
            socklen_t size = sizeof from;
            char byte[64];
            if (recvfrom(fd, byte, sizeof byte, 0, (void *)&from, &size) < 0) fail("recvfrom");
            sendto(fd, text, n, 0, (void *)&from, size);
        } else {
            int client = accept(fd, NULL, NULL);
            if (client < 0) fail("accept");
            if (write(client, text, n) != n) perror("write");
            close(client);
        }
    }
}

static void *open_and_serve(void *unused) {
    (void)unused;
    int fd = socket(address.ss_family, type, 0), on = 1;
    if (fd < 0) fail("socket");
    if (!strcmp(mode, "setrp") && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on))
        fail("setsockopt");
    if (!strcmp(mode, "raw") ? syscall(SYS_bind, fd, &address, length)
                             : bind(fd, (void *)&address, length))
        fail("bind");
    if (type == SOCK_STREAM && listen(fd, 128)) fail("listen");
    if (!strcmp(mode, "fork"))
        for (int i = 0; i < 2; i++)
            if (fork() == 0) serve(fd);
    if (!strcmp(mode, "fork"))
        while (wait(NULL) > 0) {}
    else
        serve(fd);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    mode = argc > 4 ? argv[4] : "once";
    type = strcmp(argv[1], "udp") ? SOCK_STREAM : SOCK_DGRAM;
    struct sockaddr_in *v4 = (void *)&address;
    struct sockaddr_in6 *v6 = (void *)&address;
    if (inet_pton(AF_INET, argv[2], &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(atoi(argv[3]));
        length = sizeof *v4;
    } else if (inet_pton(AF_INET6, argv[2], &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(atoi(argv[3]));
        length = sizeof *v6;
    } else {
        return 2;
    }
    if (!strcmp(mode, "daemon")) {
        if (fork()) return 0;
        setsid();
    }
    if (!strcmp(mode, "thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, open_and_serve, NULL);
        pthread_join(thread, NULL);
    } else {
        open_and_serve(NULL);
    }
    return 0;
}
