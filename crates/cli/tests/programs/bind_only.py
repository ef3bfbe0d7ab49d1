"""Binds 127.0.0.1 with SO_REUSEADDR, and SO_REUSEPORT for port 0; prints `bound KIND PORT`, and waits.

bind_only.py tcp|udp|listen-only PORT: TCP does not listen; listen-only listens without a bind.
"""

import signal
import socket
import sys

kind, port = sys.argv[1], int(sys.argv[2])
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if port == 0:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
if kind == "listen-only":
    one.listen()
else:
    one.bind(("127.0.0.1", port))
print("bound", kind, one.getsockname()[1], flush=True)
signal.pause()
