"""A process a connection, which returns every line: forking_echo.py PORT."""

import socketserver
import sys


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ForkingTCPServer):
    allow_reuse_address = True
    request_queue_size = 64


Server(("", int(sys.argv[1])), Echo).serve_forever()
