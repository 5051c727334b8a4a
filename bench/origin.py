"""The far end of every measurement: a service that sends, receives or echoes on request.

Run as `python -m bench.origin`; it prints the port on which it listens. The client begins a
connection with one of these lines:

    send COUNT      sends COUNT random bytes and ends
    text COUNT      sends COUNT bytes of a log and ends
    take            reads to the end, then sends the number of bytes
    count           reads to the end, and sends the number of bytes so far now and then, a line each
    echo            sends back what it receives
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import socket
from collections.abc import Iterator

_PIECE = 1 << 18
_POOL_BYTES = 1 << 23  # random bytes, made once; more than the history of any compressor
_LOG_LINES = 200_000
_LINE_BYTES = 64
_TELL_SECONDS = 0.1


def pieces(pool: bytes, count: int) -> Iterator[memoryview]:
    """`count` bytes of `pool`, repeated from its beginning as often as needed."""
    view, start = memoryview(pool), 0
    while count:
        piece = view[start : start + min(count, _PIECE)]
        yield piece
        count -= len(piece)
        start = (start + len(piece)) % len(pool)


def log(lines: int) -> bytes:
    """The access log of a busy web server. Always the same."""
    dice = random.Random(1)
    paths = [f"/{a}/{b}" for a in ("api/v2", "static", "img", "user") for b in range(400)]
    agents = [
        f"Mozilla/5.0 (X11; Linux x86_64; rv:{v}.0) Gecko/20100101 Firefox/{v}.0" for v in range(110, 130)
    ]
    return b"".join(
        f"10.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)} - - "
        f"[12/Mar/2024:{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02} +0000] "
        f'"GET {dice.choice(paths)}?id={dice.getrandbits(24):x} HTTP/1.1" '
        f'{dice.choice((200, 200, 200, 304, 404))} {dice.randrange(100, 60000)} "-" '
        f'"{dice.choice(agents)}"\n'.encode()
        for number in range(lines)
    )


class Origin:
    """The service."""

    def __init__(self) -> None:
        self._pool = os.urandom(_POOL_BYTES)
        self._log = b""
        self._loop = asyncio.get_running_loop()

    async def serve(self, listener: socket.socket) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                sock, _ = await self._loop.sock_accept(listener)
                group.create_task(self._attend(sock))

    async def _attend(self, sock: socket.socket) -> None:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                verb, _, count = (await self._line(sock)).partition(" ")
                match verb:
                    case "send":
                        await self._send(sock, self._pool, int(count))
                    case "text":
                        self._log = self._log or log(_LOG_LINES)
                        await self._send(sock, self._log, int(count))
                    case "take":
                        await self._loop.sock_sendall(sock, b"%d" % await self._take(sock))
                    case "count":
                        await self._count(sock)
                    case "echo":
                        while data := await self._loop.sock_recv(sock, _PIECE):
                            await self._loop.sock_sendall(sock, data)
            except ConnectionError:  # the client has left
                pass

    async def _line(self, sock: socket.socket) -> str:
        line = b""
        while not line.endswith(b"\n") and (byte := await self._loop.sock_recv(sock, 1)):
            line += byte
            if len(line) > _LINE_BYTES:
                break
        return line.decode().strip()

    async def _send(self, sock: socket.socket, pool: bytes, count: int) -> None:
        for piece in pieces(pool, count):
            await self._loop.sock_sendall(sock, piece)

    async def _take(self, sock: socket.socket) -> int:
        buffer, total = bytearray(_PIECE), 0
        while size := await self._loop.sock_recv_into(sock, buffer):
            total += size
        return total

    async def _count(self, sock: socket.socket) -> None:
        buffer, total, told = bytearray(_PIECE), 0, 0.0
        while size := await self._loop.sock_recv_into(sock, buffer):
            total += size
            if (now := self._loop.time()) - told >= _TELL_SECONDS:
                told = now
                await self._loop.sock_sendall(sock, b"%d\n" % total)


async def main() -> None:
    """Listen on a free port of every address and print the port."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.create_server(("", 0), backlog=4096) as listener:
        listener.setblocking(False)
        origin = Origin()
        print(listener.getsockname()[1], flush=True)
        await origin.serve(listener)


if __name__ == "__main__":
    asyncio.run(main())
