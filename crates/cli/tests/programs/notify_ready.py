"""A server that sends READY=1 once it listens: notify_ready.py PORT"""
import os
import socket
import sys

server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
name = os.environ["NOTIFY_SOCKET"]
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(b"READY=1", name.replace("@", "\0", 1))
print("notify", name, flush=True)
while True:
    server.accept()[0].close()
