"""A WSGI application. `/slow` answers after 1 s."""

import time


def app(environ, start):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(1)
    start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "7")])
    return [b"served\n"]
