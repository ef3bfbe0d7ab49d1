"""http.server with threads, which drains on SIGTERM: drains.py PORT [shared]

Whom it accepts is written by the kernel into a shared mapping in $ACCEPTED, as in drains.c.
"""

import ctypes
import http.server
import mmap
import os
import signal
import socket
import sys
import threading

REMEMBERED = 16384
libc = ctypes.CDLL(None, use_errno=True)
file = os.open(f"{os.environ['ACCEPTED']}/{os.getpid()}", os.O_RDWR | os.O_CREAT, 0o600)
os.ftruncate(file, REMEMBERED * 16)
accepted = mmap.mmap(file, REMEMBERED * 16, mmap.MAP_SHARED | mmap.MAP_POPULATE)
start = ctypes.addressof(ctypes.c_char.from_buffer(accepted))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"%d\n" % os.getpid()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    allow_reuse_address = "shared" not in sys.argv
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 511
    number = 0

    def server_bind(self):
        if "shared" in sys.argv:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()

    def get_request(self):
        slot = start + self.number % REMEMBERED * 16
        length = ctypes.c_uint32(16)
        client = libc.accept4(self.fileno(), ctypes.c_void_p(slot), ctypes.byref(length), 0o2000000)
        if client < 0:
            raise OSError(ctypes.get_errno(), "accept4")
        self.number += 1
        return socket.socket(fileno=client), ("", 0)

    def handle_error(self, *_):
        pass


with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("ready", flush=True)
    server.serve_forever(poll_interval=0.02)
