"""The services that the tests reach through the tunnel: small servers on loopback, in the test's process."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import struct
import zlib
from collections.abc import Iterator

from tests.inbound.peers import Origin, reset

Address = tuple[str, int]

OBJECTS = 120  # pictures and scripts on the page
_SIDE = 48  # width and height of a picture in pixels
ORDER = struct.Struct("!QQ")  # the request of an exchange: the seed of the content and its size
_PIECE = 1 << 16
_POOL = memoryview(os.urandom(1 << 20))


def content(seed: int, size: int) -> Iterator[memoryview]:
    """`size` bytes in pieces. They depend only on the seed, and a wrong order changes them."""
    order = random.Random(seed)
    while size:
        start = order.randrange(len(_POOL) - _PIECE)
        piece = _POOL[start : start + min(size, _PIECE)]
        size -= len(piece)
        yield piece


def digest(seed: int, size: int) -> bytes:
    """The SHA-256 of `content(seed, size)`."""
    sha = hashlib.sha256()
    for piece in content(seed, size):
        sha.update(piece)
    return sha.digest()


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send the requested content and receive at the same time. Then send the SHA-256 of what came."""
    seed, size = ORDER.unpack(await reader.readexactly(ORDER.size))
    async with asyncio.TaskGroup() as group:
        group.create_task(_send(writer, content(seed, size)))
        received = await _digest(reader)
    writer.write(received)


async def order(address: Address, seed: int, *, down: int, up: int) -> None:
    """Be the client of an `exchange`. Check that both directions arrived whole."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(ORDER.pack(seed, down))
        async with asyncio.TaskGroup() as group:
            group.create_task(_send_all(writer, content(seed + 1, up)))
            received = await _digest(reader, down)
            sent = await reader.read()
    finally:
        writer.close()
    assert received == digest(seed, down)
    assert sent == digest(seed + 1, up)


async def _send(writer: asyncio.StreamWriter, pieces: Iterator[memoryview]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()


async def _send_all(writer: asyncio.StreamWriter, pieces: Iterator[memoryview]) -> None:
    await _send(writer, pieces)
    writer.write_eof()


async def _digest(reader: asyncio.StreamReader, size: int | None = None) -> bytes:
    """The SHA-256 of the next `size` bytes, or of all bytes up to the end."""
    sha, left = hashlib.sha256(), _PIECE if size is None else size
    while left and (data := await reader.read(min(left, _PIECE))):
        sha.update(data)
        left -= 0 if size is None else len(data)
    return sha.digest()


async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end, then send the number of bytes and the bytes."""
    data = await reader.read()
    writer.write(b"%d bytes: %s" % (len(data), data))


async def answer_and_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one line, then reset the connection at the next one."""
    writer.write(b"heard " + await reader.readline())
    await reader.readline()
    reset(writer)


class Gathering(Origin):
    """Answers nobody before `count` clients have sent a line. The answer is the SHA-256 of the line."""

    def __init__(self, count: int) -> None:
        super().__init__(self._serve)
        self.complete = asyncio.Event()
        self._count = count
        self._lines: list[bytes] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        self._lines.append(line)
        if len(self._lines) == self._count:
            self.complete.set()
        await self.complete.wait()
        writer.write(hashlib.sha256(line).digest())


class Page(Origin):
    """A web page with `OBJECTS` pictures and scripts. The page and the server count those that arrive."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.requests: list[str] = []
        self._content = {"/": ("text/html", _html())}
        for number in range(OBJECTS // 2):
            self._content[f"/object/{number}.png"] = ("image/png", _picture(number))
            self._content[f"/object/{number}.js"] = ("text/javascript", _script(number))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            self.requests.append(path)
            kind, body = self._content.get(path, ("text/plain", b""))
            status = "200 OK" if path in self._content else "404 Not Found"
            fields = f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nCache-Control: no-store"
            writer.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body)
            await writer.drain()


def _html() -> bytes:
    tags = [
        f'<img src="/object/{number}.png" onload="arrived += this.naturalWidth == {_SIDE}">\n'
        f'<script src="/object/{number}.js"></script>\n'
        for number in range(OBJECTS // 2)
    ]
    count = "onload = () => document.querySelector('h1').textContent = `${arrived} arrived`"
    head = "<!doctype html><meta charset=utf-8><title>A page</title><h1></h1><script>var arrived = 0</script>"
    return "\n".join([head, *tags, f"<script>{count}</script>"]).encode()


def _script(number: int) -> bytes:
    return b"arrived += 1 // " + random.Random(number).randbytes(5000).hex().encode()


def _picture(number: int) -> bytes:
    """A PNG of noise (ISO/IEC 15948), about 7 KB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    noise = random.Random(number)
    rows = b"".join(b"\0" + noise.randbytes(3 * _SIDE) for _ in range(_SIDE))
    header = struct.pack("!IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
