"""A server on both wildcards, with two sockets, which answers every request with its pid.

serve.py PORT: asyncio, where the host None means a socket each on 0.0.0.0 and [::].
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
