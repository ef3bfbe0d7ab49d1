"""Streams of asyncio that return every line: asyncio_echo.py PORT."""

import asyncio
import sys


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()
    writer.close()


async def main():
    server = await asyncio.start_server(echo, "0.0.0.0", int(sys.argv[1]))
    await server.serve_forever()


asyncio.run(main())
