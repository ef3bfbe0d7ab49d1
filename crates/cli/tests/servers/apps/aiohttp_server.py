"""aiohttp: server.py PORT. `/slow` answers after 1 s."""

import asyncio
import sys

from aiohttp import web


async def index(request):
    return web.Response(text="served\n")


async def slow(request):
    await asyncio.sleep(1)
    return web.Response(text="served\n")


app = web.Application()
app.add_routes([web.get("/", index), web.get("/slow", slow)])
web.run_app(app, port=int(sys.argv[1]), print=None, access_log=None)
