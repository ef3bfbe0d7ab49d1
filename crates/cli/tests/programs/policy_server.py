"""A server that answers with its pid: policy_server.py PORT [6], with 6 on ::1 too.

A connection stays open until the client closes it."""

import os
import socket
import sys
import threading


def answer(client):
    try:
        while asked := client.recv(4096):
            if asked.startswith(b"KEEP"):
                client.sendall(b"%d\n" % os.getpid())
                continue
            client.sendall(b"HTTP/1.0 200 OK\r\n\r\n%d\n" % os.getpid())
            client.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    client.close()


def serve(family, address, port):
    listener = socket.socket(family)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    listener.bind((address, port))
    listener.listen(128)
    while True:
        threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()


port = int(sys.argv[1])
if "6" in sys.argv[2:]:
    threading.Thread(target=serve, args=[socket.AF_INET6, "::1", port], daemon=True).start()
serve(socket.AF_INET, "127.0.0.1", port)
