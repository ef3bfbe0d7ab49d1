"""Members of a group that sameport did not start, and their clients.

members PORT COUNT ADDRESS...   COUNT processes, each with a listener on every address
alone PORT ADDRESS              one listener without SO_REUSEPORT
churn PORT COUNT ADDRESS        one process with a listener that stays, and COUNT that close and come again
count PORT COUNT ADDRESS        connects COUNT times, one after the other: "PID NUMBER" lines
http PORT COUNT ADDRESS         the same of servers that answer with their pid; "0 NUMBER" are the requests
                                without an answer
hold PORT COUNT ADDRESS         as count, and keeps the connections until it is killed
"""

import collections
import os
import select
import socket
import sys
import time


def listener(address, port, shared):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    sock.listen(64)
    return sock


def serve(listeners):
    """Sends the pid to every client, and keeps the connection until the client closes it."""
    connections = []
    while True:
        for sock in select.select(listeners + connections, [], [])[0]:
            if sock in listeners:
                connection, _ = sock.accept()
                connection.sendall(b"%d\n" % os.getpid())
                connections.append(connection)
            else:
                try:
                    data = sock.recv(100)
                except OSError:
                    data = b""
                if not data:
                    sock.close()
                    connections.remove(sock)


def members(port, count, addresses):
    for _ in range(count):
        ready, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            listeners = [listener(address, port, True) for address in addresses]
            os.write(tell, b"x")
            serve(listeners)
        os.read(ready, 1)
        print("member", pid, flush=True)
    print("ready", flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1000)


def connect(port, address):
    sock = socket.create_connection((address, port), timeout=60)
    return sock, int(sock.makefile().readline())


def request(port, address):
    """The pid in the answer to a request; 0 without an answer."""
    try:
        with socket.create_connection((address, port), timeout=60) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = sock.makefile("rb").read()
    except OSError as error:
        print("lost:", error, file=sys.stderr)
        return 0
    body = answer.rsplit(b"\r\n\r\n", 1)[-1].strip()
    return int(body) if body.isdigit() else 0


def main():
    what, port, rest = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    if what == "members":
        members(port, int(rest[0]), rest[1:])
    elif what == "churn":
        listeners = [listener(rest[1], port, True) for _ in range(int(rest[0]))]
        _stays = listener(rest[1], port, True)
        print("member", os.getpid(), flush=True)
        print("ready", flush=True)
        while True:
            listeners.pop(0).close()
            listeners.append(listener(rest[1], port, True))
            time.sleep(0.001)
    elif what == "alone":
        sock = listener(rest[0], port, False)
        print("member", os.getpid(), flush=True)
        print("ready", flush=True)
        serve([sock])
    elif what == "http":
        print("ready", flush=True)
        counts = collections.Counter(request(port, rest[1]) for _ in range(int(rest[0])))
        for pid, number in counts.items():
            print(pid, number)
    else:
        counts, open_ones = collections.Counter(), []
        for _ in range(int(rest[0])):
            sock, pid = connect(port, rest[1])
            counts[pid] += 1
            if what == "hold":
                open_ones.append(sock)
            else:
                sock.close()
        for pid, number in counts.items():
            print(pid, number)
        print("ready", flush=True)
        if what == "hold":
            time.sleep(1000)


main()
