"""Cheroot, the server of CherryPy: server.py PORT. `/slow` answers after 1 s."""

import sys
import time

from cheroot import wsgi


def app(environ, start):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1)
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"served\n"]


wsgi.Server(("0.0.0.0", int(sys.argv[1])), app).safe_start()
