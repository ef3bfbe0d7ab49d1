// What Wine refuses, without Rust: one line a fact, "NAME: NUMBER", the error of the call.

#include <stdio.h>
#include <winsock2.h>
#include <ws2tcpip.h>

static SOCKET with_reuse_address(int type)
{
    SOCKET it = socket(AF_INET, type, 0);
    int on = 1;
    setsockopt(it, SOL_SOCKET, SO_REUSEADDR, (char *)&on, sizeof on);
    return it;
}

static int bind_to(SOCKET it, unsigned short port)
{
    struct sockaddr_in address = {0};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = port;
    return bind(it, (struct sockaddr *)&address, sizeof address) ? WSAGetLastError() : 0;
}

static unsigned short port_of(SOCKET it)
{
    struct sockaddr_in address;
    int length = sizeof address;
    getsockname(it, (struct sockaddr *)&address, &length);
    return address.sin_port;
}

static int second(int type)
{
    SOCKET one = with_reuse_address(type), other = with_reuse_address(type);
    int error = bind_to(one, 0);
    if (!error && type == SOCK_STREAM && listen(one, 1))
        error = WSAGetLastError();
    return error ? -error : bind_to(other, port_of(one));
}

int main(void)
{
    WSADATA data;
    if (WSAStartup(MAKEWORD(2, 2), &data))
        return 1;
    printf("second TCP listener with SO_REUSEADDR: %d\n", second(SOCK_STREAM));
    printf("second UDP socket with SO_REUSEADDR: %d\n", second(SOCK_DGRAM));
    return 0;
}
