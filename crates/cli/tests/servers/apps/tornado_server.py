"""Tornado: server.py PORT. `/slow` answers after 1 s."""

import asyncio
import sys

import tornado.web


class Index(tornado.web.RequestHandler):
    async def get(self):
        self.write("served\n")


class Slow(tornado.web.RequestHandler):
    async def get(self):
        await asyncio.sleep(1)
        self.write("served\n")


async def main():
    tornado.web.Application([("/", Index), ("/slow", Slow)]).listen(int(sys.argv[1]))
    await asyncio.Event().wait()


asyncio.run(main())
