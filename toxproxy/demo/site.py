"""A small web site with known content, and a client that fetches its pages through the tunnel."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self, cast

from python_socks.async_.asyncio import Proxy

OBJECTS = 24
_OBJECT_BYTES = 30_000
_FILE_BYTES = 32 << 20
_HEAD_BYTES = 16384
_READ_BYTES = 1 << 18

Address = tuple[str, int]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Site:
    """A web server on a free port of loopback, as an asynchronous context manager.

    It has a page, `OBJECTS` objects of 30 KB and a file of 32 MiB. Objects and file are random bytes.
    """

    def __init__(self) -> None:
        self.address: Address = ("127.0.0.1", 0)
        self.page = ["/", *(f"/object/{number}" for number in range(OBJECTS))]
        self.file = "/file"
        self.content = {path: os.urandom(_OBJECT_BYTES) for path in self.page}
        self.content["/"] = b"<!doctype html><title>toxproxy</title><h1>It works</h1>\n"
        self.content[self.file] = os.urandom(_FILE_BYTES)
        self._hashes = {path: hashlib.sha256(body).digest() for path, body in self.content.items()}
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Exchange(self.content, self._transports), self.address[0], 0
        )
        self.address = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        for transport in set(self._transports):
            transport.abort()

    def is_whole(self, path: str, got: bytes) -> bool:
        """Whether `got` is the SHA-256 of what is at `path`."""
        return got == self._hashes[path]


class _Exchange(asyncio.Protocol):
    """Answers one request and closes the connection."""

    def __init__(self, content: dict[str, bytes], transports: set[asyncio.Transport]) -> None:
        self._content = content
        self._transports = transports
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transports.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._head += data
        if b"\r\n\r\n" in self._head:
            path = self._head.split(b" ", 2)[1].decode("latin-1")
            body = self._content.get(path)
            status = "404 Not Found" if body is None else "200 OK"
            fields = f"Content-Length: {len(body or b'')}\r\nConnection: close"
            self._transport.write(f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode())
            self._transport.write(body or b"")
            self._transport.close()
        elif len(self._head) > _HEAD_BYTES:
            self._transport.abort()


@dataclass(frozen=True)
class Way:
    """A way to a site. `whole_url`: the request has the whole URL, as an HTTP proxy needs."""

    name: str
    connect: Callable[[], Awaitable[Streams]]
    whole_url: bool = False


def by_socks(proxy: Address, site: Address) -> Way:
    """Through a SOCKS5 proxy."""

    async def connect() -> Streams:
        sock = await Proxy.from_url(f"socks5://{proxy[0]}:{proxy[1]}").connect(*site)
        return await asyncio.open_connection(sock=sock, limit=_READ_BYTES)

    return Way("SOCKS5 proxy", connect)


def by_http(proxy: Address) -> Way:
    """Through an HTTP proxy, as browsers fetch http:// pages."""
    return Way("HTTP proxy", lambda: asyncio.open_connection(*proxy, limit=_READ_BYTES), whole_url=True)


def by_forward(forward: Address) -> Way:
    """Through a forward to the site."""
    return Way("forward", lambda: asyncio.open_connection(*forward, limit=_READ_BYTES))


async def fetch(way: Way, site: Address, path: str) -> tuple[int, bytes]:
    """Fetch a page. Returns its size in bytes and its SHA-256. Raises `OSError` unless it arrives whole."""
    reader, writer = await way.connect()
    try:
        host = f"{site[0]}:{site[1]}"
        url = f"http://{host}{path}" if way.whole_url else path
        writer.write(f"GET {url} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        status, size = await _head(reader)
        if status != 200:
            raise OSError(f"{path}: HTTP status {status}")
        digest, got = hashlib.sha256(), 0
        while got < size and (data := await reader.read(_READ_BYTES)):
            digest.update(data)
            got += len(data)
        if got != size:
            raise OSError(f"{path}: {got} of {size} bytes")
        return size, digest.digest()
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[int, int]:
    """The status and the Content-Length of an HTTP response. Raises `OSError`."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in head[1:] if line)
        return int(head[0].split()[1]), int(fields["content-length"])
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, LookupError) as error:
        raise OSError(f"no proper HTTP answer: {error}") from None
