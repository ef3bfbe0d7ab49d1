// A server that answers every connection with its pid, and binds before main, in the constructor
// of a static object, as C++ libraries can.
//
// preload_serve IP PORT
#include <arpa/inet.h>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

// A constructor has no access to argv.
static std::vector<std::string> arguments() {
    std::ifstream file("/proc/self/cmdline", std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    std::vector<std::string> words;
    for (std::size_t at = 0, end; (end = text.find('\0', at)) != std::string::npos; at = end + 1)
        words.push_back(text.substr(at, end - at));
    return words;
}

static int check(int result, const char *call) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), call);
    return result;
}

class Server {
    int listener;

public:
    Server() {
        const auto words = arguments();
        sockaddr_in6 v6{};
        sockaddr_in v4{};
        const auto port = htons(static_cast<std::uint16_t>(std::stoi(words.at(2))));
        const bool is_v4 = inet_pton(AF_INET, words.at(1).c_str(), &v4.sin_addr) == 1;
        if (!is_v4 && inet_pton(AF_INET6, words.at(1).c_str(), &v6.sin6_addr) != 1)
            throw std::invalid_argument(words.at(1));
        v4.sin_family = AF_INET, v6.sin6_family = AF_INET6;
        v4.sin_port = v6.sin6_port = port;
        listener = check(socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM, 0), "socket");
        const auto *address = is_v4 ? reinterpret_cast<sockaddr *>(&v4) : reinterpret_cast<sockaddr *>(&v6);
        check(bind(listener, address, is_v4 ? sizeof v4 : sizeof v6), "bind");
        check(listen(listener, 128), "listen");
    }

    void serve() const {
        for (;;) {
            const int client = check(accept(listener, nullptr, nullptr), "accept");
            char request[256];
            check(static_cast<int>(recv(client, request, sizeof request, 0)), "recv");
            const auto answer = std::to_string(getpid()) + "\n";
            check(static_cast<int>(send(client, answer.data(), answer.size(), MSG_NOSIGNAL)), "send");
            close(client);
        }
    }
};

static const Server server;

int main() {
    std::thread([] { server.serve(); }).join();
}
