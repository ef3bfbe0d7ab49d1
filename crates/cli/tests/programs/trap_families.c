/* trap_families PORT: sockets other than TCP and UDP, and other ways to create these. */
#include "trap.h"
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/ethernet.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>

static void with(const char *what, int family, int type, int protocol, const void *at, int size) {
    int fd = socket(family, type, protocol);
    if (fd < 0) {
        tell(what, errno, "-");
        return;
    }
    int result = bind_raw(fd, at, size);
    tell(what, result, shared(fd));
    close(fd);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int port = atoi(argv[1]);
    struct sockaddr_in v4 = loopback(port);

    /* A relative path, which must appear in the directory of this process. */
    char folder[] = "/tmp/sameport-trap-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder)) return 3;
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "here"};
    with("unix", AF_UNIX, SOCK_STREAM, 0, &un, offsetof(struct sockaddr_un, sun_path) + 5);
    struct stat found;
    tell("unix-in-own-directory", stat("here", &found) ? errno : 0, "-");
    unlink("here");
    with("unix-datagram", AF_UNIX, SOCK_DGRAM, 0, &un, sizeof un);
    unlink("here");
    if (chdir("/") || rmdir(folder)) return 3;
    /* Abstract, with the bytes of a port and an address. */
    struct sockaddr_un hidden = {.sun_family = AF_UNIX};
    snprintf(hidden.sun_path + 1, 60, "sameport-trap-%d", getpid());
    with("unix-abstract", AF_UNIX, SOCK_STREAM, 0, &hidden, 60);
    with("inet-on-unix", AF_UNIX, SOCK_STREAM, 0, &v4, sizeof v4);

    struct sockaddr_nl netlink = {.nl_family = AF_NETLINK};
    with("netlink", AF_NETLINK, SOCK_RAW, NETLINK_ROUTE, &netlink, sizeof netlink);
    struct sockaddr_ll packet = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP)};
    packet.sll_ifindex = 1;
    with("packet", AF_PACKET, SOCK_DGRAM, htons(ETH_P_IP), &packet, sizeof packet);
    with("raw", AF_INET, SOCK_RAW, IPPROTO_UDP, &v4, sizeof v4);

    with("tcp", AF_INET, SOCK_STREAM, 0, &v4, sizeof v4);
    with("udp", AF_INET, SOCK_DGRAM, 0, &v4, sizeof v4);
    with("mptcp", AF_INET, SOCK_STREAM, 262, &v4, sizeof v4);
    plain("after", v4);
    return 0;
}
