"""Binds 0.0.0.0 (`any`), 0.0.0.0 on lo (`device`), or v6-only [::]; prints the result, and waits.

bind_part.py any|device|v6only tcp|udp PORT
"""

import signal
import socket
import sys

part, kind, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family, address = (
    (socket.AF_INET6, "::") if part == "v6only" else (socket.AF_INET, "0.0.0.0")
)
one = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
if part == "device":
    one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
elif part == "v6only":
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
try:
    one.bind((address, port))
except OSError as error:
    sys.exit(str(error))
if kind == "tcp":
    one.listen()
print("bound", flush=True)
signal.pause()
