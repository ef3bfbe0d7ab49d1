"""A thread a connection, with keep-alive: server.py PORT. `/slow` answers after 1 s."""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/slow":
            time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"served\n")

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
