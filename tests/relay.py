"""Passes connections on, from a port of loopback or a Unix socket to another.

    python -m tests.relay tcp:9000 unix:/tmp/x      listens on the first, connects to the second

With one of each kind, a server is reached from a network name space that has loopback alone.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


async def serve(listen: str, target: str) -> None:
    """Relay until cancelled."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, _, place = target.partition(":")
        if kind == "unix":
            there, back = await asyncio.open_unix_connection(place)
        else:
            there, back = await asyncio.open_connection("127.0.0.1", int(place))
        try:
            await asyncio.gather(_pass_on(reader, back), _pass_on(there, writer))
        finally:
            back.close()
            writer.close()

    kind, _, place = listen.partition(":")
    if kind == "unix":
        server = await asyncio.start_unix_server(handle, place)
    else:
        server = await asyncio.start_server(handle, "127.0.0.1", int(place))
    print("ready", flush=True)  # noqa: T201
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
