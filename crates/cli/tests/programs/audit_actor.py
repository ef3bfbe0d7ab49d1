"""A program whose arguments open sockets, for the tests of `audit`. Prints `ready`, and waits."""
import ctypes, os, signal, socket, struct, sys

SO_REUSEPORT, SO_BINDTODEVICE, SO_ATTACH_REUSEPORT_CBPF, TCP_REPAIR = 15, 25, 51, 19
pidfd_open, pidfd_getfd = 434, 438
libc = ctypes.CDLL(None, use_errno=True)


def place(text):
    host, port = text.rsplit(":", 1)
    return host.strip("[]"), int(port)


def steal(pid):
    """The first listening socket of another process."""
    process = libc.syscall(pidfd_open, pid, 0)
    for fd in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
        if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:"):
            mine = libc.syscall(pidfd_getfd, process, fd, 0)
            if mine < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            return socket.socket(fileno=mine)


kept = []
for word in sys.argv[1:]:
    name, _, value = word.partition("=")
    last = kept[-1] if kept else None
    if name in ("tcp", "udp", "tcp6", "udp6"):
        family = socket.AF_INET6 if name.endswith("6") else socket.AF_INET
        kind = socket.SOCK_STREAM if name.startswith("tcp") else socket.SOCK_DGRAM
        kept.append(socket.socket(family, kind))
        if family == socket.AF_INET6:
            kept[-1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    elif name == "ra":
        last.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    elif name == "rp":
        last.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    elif name == "v6only":
        last.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    elif name == "device":
        last.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, value.encode())
    elif name == "repair":
        last.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    elif name == "bind":
        last.bind(place(value))
    elif name == "listen":
        last.listen(int(value))
    elif name == "connect":
        last.connect(place(value))
    elif name == "shutdown":
        last.shutdown(socket.SHUT_RDWR)
    elif name == "steer":
        # BPF_RET | BPF_K: always this index.
        program = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, int(value)))
        last.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF,
                        struct.pack("HxxxxxxP", 1, ctypes.addressof(program)))
    elif name == "steal":
        kept.append(steal(int(value)))
    elif name == "fork":
        for _ in range(int(value)):
            if os.fork() == 0:
                signal.pause()
    else:
        sys.exit(f"what is {word}?")
print("ready", flush=True)
signal.pause()
