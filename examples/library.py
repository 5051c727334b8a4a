"""Fetch a page from the server's side, in a program of one's own.

    python examples/library.py CONFIG STATE http://127.0.0.1:8000/

CONFIG is a client's file with one server, STATE a folder for this program's identity: not that
of a client that runs already. The file's listeners are opened as well; a local port of 0 takes
any that is free. The answer, headers included, goes to stdout as it arrives.
"""

from __future__ import annotations

import asyncio
import sys
from typing import BinaryIO
from urllib.parse import urlsplit

import toxproxy

CHUNK = 65536  # bytes


async def fetch(client: toxproxy.Client, url: str, out: BinaryIO) -> None:
    """Write the whole answer to a GET of `url` (http) to `out`.

    Raises `StreamRefused` where the server does not connect, `StreamReset` where the answer
    is cut short.
    """
    parts = urlsplit(url)
    # Waits up to [tox] wait seconds for the server to be found; the name is looked up there.
    reader, writer = await client.open_connection(parts.hostname or "", parts.port or 80)
    try:
        writer.write(f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode("ascii"))
        while chunk := await reader.read(CHUNK):
            out.write(chunk)
    finally:
        writer.close()


async def main(config: str, state: str, url: str) -> None:
    async with toxproxy.Client(toxproxy.load_config(config), state) as client:
        await fetch(client, url, sys.stdout.buffer)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: library.py CONFIG STATE URL")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except toxproxy.StreamError as error:
        sys.exit(f"not fetched: {error}")
    except toxproxy.ToxproxyError as error:
        sys.exit(f"toxproxy does not start: {error}")
