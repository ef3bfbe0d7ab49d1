"""Opens ports one after another: ports.py [--host HOST] KIND:PORT:DELAY...

KIND is `http` (answers with the pid; with --host, 400 unless the Host header is HOST) or `silent` (never
answers). DELAY is in seconds, counted from the port before.
"""
import os
import socket
import sys
import threading
import time

arguments = sys.argv[1:]
host = None
if arguments[0] == "--host":
    host, arguments = arguments[1], arguments[2:]


def answer(client):
    request = client.recv(65536).decode()
    header = [line for line in request.split("\r\n") if line.lower().startswith("host:")]
    is_right = host is None or header == ["Host: " + host]
    status = "200 OK" if is_right else "400 Bad Request"
    client.sendall(f"HTTP/1.0 {status}\r\n\r\n{os.getpid()}\n".encode())
    client.close()


def serve(kind, listener):
    kept = []
    while True:
        client, _ = listener.accept()
        if kind == "http":
            threading.Thread(target=answer, args=(client,), daemon=True).start()
        else:
            kept.append(client)


for word in arguments:
    kind, port, delay = word.split(":")
    time.sleep(float(delay))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(port)))
    listener.listen(64)
    threading.Thread(target=serve, args=(kind, listener), daemon=True).start()
while True:
    time.sleep(60)
