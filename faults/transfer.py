"""One long download, to be disturbed.

    python -m faults.transfer serve SIZE              at the far end; prints the port
    python -m faults.transfer fetch HOST PORT SIZE [SECONDS]
                                                      at the near end; prints how many bytes came, and when

SIZE is in bytes. Every byte that comes is checked. After SECONDS the download is given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time

from faults.content import BLOCK, Content, Receipt
from faults.plan import Side

_TELL = 0.02  # seconds between two lines of output
_SEED = 1


async def serve(size: int) -> None:
    """Send the content to every client."""

    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for piece in _content(size).pieces():
                writer.write(piece)
                await writer.drain()
            writer.close()

    server = await asyncio.start_server(send, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def fetch(host: str, port: int, size: int, seconds: float | None = None) -> None:
    """Print {"at": time, "got": bytes} at the beginning and now and then. The last line also has "whole"
    and "why". After `seconds` the download is given up.
    """
    print(json.dumps({"at": time.time(), "got": 0}), flush=True)
    reader, writer = await asyncio.open_connection(host, port, limit=BLOCK)
    receipt, told = Receipt(_content(size)), 0.0
    why = ""
    try:
        async with asyncio.timeout(seconds):
            while data := await reader.read(BLOCK):
                receipt.take(data)
                if (now := time.time()) - told > _TELL:
                    told = now
                    print(json.dumps({"at": now, "got": receipt.got}), flush=True)
    except TimeoutError:
        why = f"{receipt.got} of {size} bytes within {seconds:.0f} s"
    except ConnectionError as error:
        why = str(error)
    whole = receipt.got == size and receipt.wrong_at is None
    print(json.dumps({"at": time.time(), "got": receipt.got, "whole": whole, "why": why}), flush=True)
    writer.close()


def _content(size: int) -> Content:
    return Content(_SEED, 0, Side.FAR, size)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        match sys.argv[1:]:
            case ["serve", length]:
                asyncio.run(serve(int(length)))
            case ["fetch", host, port, length]:
                asyncio.run(fetch(host, int(port), int(length)))
            case ["fetch", host, port, length, limit]:
                asyncio.run(fetch(host, int(port), int(length), float(limit)))
            case _:
                sys.exit(__doc__)
