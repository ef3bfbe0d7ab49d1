/* blocker DIRECTORY ROLE PORT [FILE]: the first process to start makes calls that can block their answer; each
 * other one binds 50 sockets meanwhile and prints `bound 50`. FILE never answers.
 *
 * descriptor: binds FILE. memory: binds an address in memory mapped from FILE. linger: kills processes that have a
 * connection with unsent data and SO_LINGER while they bind. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct sockaddr_in at(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static int stream(void)
{
    return socket(AF_INET, SOCK_STREAM, 0);
}

static void linger(int port)
{
    struct sockaddr_in address = at(0);
    socklen_t length = sizeof address;
    int listener = stream();
    bind(listener, (void *)&address, length);
    listen(listener, 100);
    getsockname(listener, (void *)&address, &length);
    for (int i = 0; i < 150; i++) {
        int ready[2];
        if (pipe(ready))
            exit(1);
        pid_t child = fork();
        if (child == 0) {
            int client = stream();
            connect(client, (void *)&address, sizeof address);
            int server = accept(listener, 0, 0);
            struct linger waits = {1, 300};
            setsockopt(client, SOL_SOCKET, SO_LINGER, &waits, sizeof waits);
            char bytes[65536] = {1};
            fcntl(client, F_SETFL, O_NONBLOCK);
            while (write(client, bytes, sizeof bytes) > 0)
                ;
            if (fork() == 0) {
                /* The peer stays, and does not read. */
                close(client);
                for (;;)
                    pause();
            }
            close(server);
            write(ready[1], "x", 1);
            struct sockaddr_in target = at(port);
            for (;;)
                bind(client, (void *)&target, sizeof target);
        }
        char byte;
        read(ready[0], &byte, 1);
        usleep(i * 20);
        kill(child, SIGKILL);
        waitpid(child, 0, 0);
        close(ready[0]);
        close(ready[1]);
    }
}

static void attack(const char *role, int port, const char *file)
{
    struct sockaddr_in address = at(port);
    int hung = file ? open(file, O_RDWR) : -1;
    if (fork() == 0) {
        if (!strcmp(role, "descriptor"))
            bind(hung, (void *)&address, sizeof address);
        if (!strcmp(role, "memory"))
            bind(stream(), mmap(0, 4096, PROT_READ, MAP_PRIVATE, hung, 0), sizeof address);
        if (!strcmp(role, "linger"))
            linger(port);
        for (;;)
            pause();
    }
}

int main(int count, char **arguments)
{
    char first[4096], attacking[4096];
    const char *role = arguments[2], *file = count > 4 ? arguments[4] : 0;
    int port = atoi(arguments[3]);
    snprintf(first, sizeof first, "%s/first", arguments[1]);
    snprintf(attacking, sizeof attacking, "%s/attacking", arguments[1]);
    if (mkdir(first, 0777) == 0) {
        attack(role, port, file);
        usleep(300000);
        mkdir(attacking, 0777);
        for (;;)
            pause();
    }
    while (access(attacking, F_OK))
        usleep(1000);
    int bound = 0;
    for (int i = 0; i < 50; i++) {
        struct sockaddr_in address = at(port);
        int fd = stream();
        bound += bind(fd, (void *)&address, sizeof address) == 0;
        close(fd);
        usleep(2000);
    }
    printf("bound %d\n", bound);
    fflush(stdout);
    for (;;)
        pause();
}
