"""UDP services and clients on loopback, for tests of datagrams."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from toxproxy.address import UdpTarget
from toxproxy.errors import StreamError
from toxproxy.system.datagrams import DatagramSocket

Answer = Callable[[bytes, Any], bytes | None]


class Service:
    """A UDP socket that answers. `seen` are the datagrams that came, with their sources."""

    def __init__(self, answer: Answer, host: str, port: int) -> None:
        self.seen: list[tuple[bytes, Any]] = []
        self._answer = answer
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, port))
        self.target = UdpTarget(host, sock.getsockname()[1])
        self.socket = DatagramSocket(sock, self._received)

    def _received(self, data: bytes, source: Any) -> None:
        self.seen.append((data, source))
        if (answer := self._answer(data, source)) is not None:
            self.socket.send(answer, source)


@contextlib.asynccontextmanager
async def service(
    answer: Answer = lambda data, _: data[::-1], host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Service]:
    """One that answers each datagram with its bytes backwards, unless told otherwise."""
    made = Service(answer, host, port)
    try:
        yield made
    finally:
        made.socket.close()


class Client:
    """A UDP socket of a program that uses the tunnel."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._came: asyncio.Queue[tuple[bytes, Any]] = asyncio.Queue()
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((host, port))
        self.address = sock.getsockname()
        self.socket = DatagramSocket(sock, lambda data, source: self._came.put_nowait((data, source)))

    def send(self, data: bytes, to: str | tuple[str, int]) -> None:
        """To an address, or to one as listeners show it."""
        if isinstance(to, str):
            host, _, port = to.rpartition(":")
            to = host, int(port)
        self.socket.send(data, to)

    async def receive(self, seconds: float = 5.0) -> bytes:
        async with asyncio.timeout(seconds):
            data, self.source = await self._came.get()
            return data

    async def nothing(self, seconds: float = 0.1) -> bool:
        """Whether nothing comes in this time."""
        with contextlib.suppress(TimeoutError):
            await self.receive(seconds)
            return False
        return True


@contextlib.asynccontextmanager
async def client(host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Client]:
    made = Client(host, port)
    try:
        yield made
    finally:
        made.socket.close()


class Owner:
    """A flow's owner that writes down what it is told."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[bytes] = asyncio.Queue()
        self.opened = asyncio.Event()
        self.ended: asyncio.Future[StreamError | None] = asyncio.get_running_loop().create_future()

    def flow_opened(self) -> None:
        self.opened.set()

    def datagram_received(self, data: bytes) -> None:
        assert not self.ended.done()
        self.came.put_nowait(data)

    def flow_ended(self, error: StreamError | None) -> None:
        self.ended.set_result(error)

    async def receive(self) -> bytes:
        async with asyncio.timeout(5):
            return await self.came.get()

    async def end(self) -> StreamError | None:
        async with asyncio.timeout(5):
            return await self.ended
