/* trap_many_addresses shared|refused COUNT PORT [FILE]: binds COUNT addresses, each of which makes
 * the supervisor print a line. With FILE, exits once it exists.
 *
 * shared   a UDP socket on each address, and one of another execution
 * second   the other execution: ends with its standard input
 * refused  a foreign address (198.18.0.0/15 is for benchmarks, RFC 2544)
 */
#include "trap.h"

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int count = atoi(argv[2]), port = atoi(argv[3]), unshared = 0, surprises = 0;
    int is_refused = !strcmp(argv[1], "refused");
    int is_second = !strcmp(argv[1], "second");
    pid_t other = 0;
    int ends[2];
    if (!is_refused && !is_second) {
        if (pipe(ends)) return 3;
        other = fork();
        if (other == 0) {
            dup2(ends[0], 0);
            close(ends[0]), close(ends[1]);
            execl("/proc/self/exe", argv[0], "second", argv[2], argv[3], (char *)NULL);
            _exit(127);
        }
        close(ends[0]);
    }
    for (int n = 0; n < count; n++) {
        struct sockaddr_in at = numbered(n, port);
        int type = is_refused ? SOCK_STREAM : SOCK_DGRAM;
        if (is_refused) at.sin_addr.s_addr = htonl((198u << 24) + (18u << 16) + n);
        for (int twice = 0; twice < (is_refused ? 2 : 1); twice++) {
            int fd = socket(AF_INET, type, 0);
            surprises += bind_to(fd, at) != (is_refused ? EADDRNOTAVAIL : 0);
            unshared += strcmp(shared(fd), "yes") != 0;
            if (is_refused) close(fd);
        }
    }
    if (is_second) {
        char byte;
        while (read(0, &byte, 1) > 0) continue;
        return surprises + unshared > 0;
    }
    /* Time for the supervisor to report the shared addresses. */
    if (!is_refused && argc == 4) usleep(500000);
    for (int i = 0; argc > 4 && access(argv[4], F_OK) && i < 20000; i++) usleep(1000);
    if (other) {
        int status;
        close(ends[1]);
        waitpid(other, &status, 0);
        surprises += status != 0;
    }
    tell(argv[1], surprises ? EPROTO : 0, unshared ? "no" : "yes");
    plain("after", loopback(port));
    return 0;
}
