"""A server on both wildcards, by two sockets, that answers every request with its pid.

serve.py PORT: asyncio, whose host None means 0.0.0.0 and [::] each on its own.
"""

import asyncio
import os
import sys


async def answer(reader, writer):
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n%d\n" % os.getpid())
    await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(answer, None, int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
