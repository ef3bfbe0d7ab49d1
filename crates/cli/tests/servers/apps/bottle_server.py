"""Bottle on the single-threaded server of wsgiref: server.py PORT."""

import sys

import bottle


@bottle.route("/")
def index():
    return "served\n"


bottle.run(host="0.0.0.0", port=int(sys.argv[1]), quiet=True)
