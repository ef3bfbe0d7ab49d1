"""Echoes lines, each with the pid of its process. A line `slow` takes two seconds, `slower` eight. `parts`
is answered in six parts, one each 0.3 seconds, and `upload` after `continue` and another line.

drain_lines.py HOW PORT, where HOW is
  forks     a process for each connection; no signal handler
  exits     threads; exits at once on any stop signal, and prints the signal
  finishes  threads; on SIGTERM refuses new connections, and exits when the present lines are answered
"""
import os
import signal
import socketserver
import sys
import threading
import time

how, port = sys.argv[1], int(sys.argv[2])
busy = 0
lock = threading.Lock()


class Lines(socketserver.StreamRequestHandler):
    def handle(self):
        global busy
        for line in self.rfile:
            with lock:
                busy += 1
            time.sleep({b"slow\n": 2, b"slower\n": 8}.get(line, 0))
            for part in range(5 if line == b"parts\n" else 0):
                self.wfile.write(b"part ")
                time.sleep(0.3)
            if line == b"upload\n":
                self.wfile.write(b"continue\n")
                line += self.rfile.readline()
            self.wfile.write(b"%d %s" % (os.getpid(), line))
            with lock:
                busy -= 1


base = socketserver.ForkingTCPServer if how == "forks" else socketserver.ThreadingTCPServer


class Server(base):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64


server = Server(("127.0.0.1", port), Lines)


def exits(number, frame):
    print("got", number, flush=True)
    os._exit(0)


def finish():
    server.shutdown()
    while busy:
        time.sleep(0.01)
    time.sleep(0.1)
    os._exit(0)


if how == "exits":
    for number in [signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1, signal.SIGRTMIN + 3]:
        signal.signal(number, exits)
if how == "finishes":
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=finish).start())
server.serve_forever()
