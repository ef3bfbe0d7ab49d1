"""A server on a passed socket (sd_listen_fds(3)), which answers every request with its pid."""

import os
import socket

assert os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["LISTEN_PID"]
assert os.environ["LISTEN_FDS"] == "1", os.environ["LISTEN_FDS"]
assert os.environ["LISTEN_FDNAMES"] == "sameport", os.environ["LISTEN_FDNAMES"]
assert "LISTEN_PIDFDID" not in os.environ
listener = socket.socket(fileno=3)
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    with client:
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            request += client.recv(4096)
        client.sendall(b"HTTP/1.0 200 OK\r\n\r\n%d\n" % os.getpid())
