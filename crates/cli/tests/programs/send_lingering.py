"""Sends connections with SO_LINGER and unsent data to a notify socket, and leaves them to it: send_lingering.py NAME

The peers of the connections stay open in a process that outlives this one, and do not read. Prints its pid.
"""
import array
import os
import socket
import struct
import sys
import time

notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(sys.argv[1].replace("@", "\0", 1))
listener = socket.create_server(("127.0.0.1", 0), backlog=100)
sent, peers = [], []
for _ in range(40):
    client = socket.create_connection(listener.getsockname())
    peers.append(listener.accept()[0])
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    client.setblocking(False)
    try:
        while True:
            client.send(bytes(65536))
    except BlockingIOError:
        pass
    sent.append(client)
holder = os.fork()
if holder == 0:
    for client in sent:
        client.close()
    notify.close()
    os.setsid()
    for stream in (0, 1, 2):
        os.close(stream)
    # Longer than the test.
    time.sleep(1000)
    os._exit(0)
print(holder, flush=True)
for client in sent:
    rights = array.array("i", [client.fileno()])
    notify.sendmsg([b"READY=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
os._exit(0)
