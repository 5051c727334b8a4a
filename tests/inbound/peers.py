"""What listeners talk to: a dialer, origin servers and plain clients, all real and on loopback."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from toxproxy.address import Bind, Target, ToxId
from toxproxy.config.settings import Forward, ProxyPort
from toxproxy.dialer import P
from toxproxy.errors import Refusal, StreamRefused

SERVER = ToxId(bytes(38))
LOOPBACK = Bind("127.0.0.1", 0)


def forward(target: Target, bind: Bind = LOOPBACK) -> Forward:
    return Forward("web", bind, target, SERVER, 1)


def proxy(username: str | None = None, password: str | None = None, bind: Bind = LOOPBACK) -> ProxyPort:
    return ProxyPort("browser", bind, SERVER, username, password, 1)


class DirectDialer:
    """Dials from this machine. `names` resolve to 127.0.0.1; hosts in `refusals` are refused."""

    def __init__(self) -> None:
        self.dialled: list[Target] = []
        self.refusals: dict[str, Refusal] = {}
        self.names = {"origin.test"}
        self.gate = asyncio.Event()  # dials wait until it is set
        self.gate.set()
        self.waiting = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.open: list[asyncio.Transport] = []

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        self.dialled.append(target)
        try:
            self.waiting.set()
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if (code := self.refusals.get(target.host)) is not None:
            raise StreamRefused(code, code.words)
        host = "127.0.0.1" if target.host in self.names else target.host
        try:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                protocol_factory, host, target.port
            )
        except ConnectionRefusedError as error:
            raise StreamRefused(Refusal.CONNECTION_REFUSED, "connection refused") from error
        except OSError as error:
            raise StreamRefused(Refusal.FAILED, str(error)) from error
        self.open.append(transport)
        return transport, protocol


class Origin:
    """A TCP server on 127.0.0.1 that runs `handler(reader, writer)` for each connection."""

    def __init__(
        self, handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], host: str = "127.0.0.1"
    ) -> None:
        self._handler = handler
        self._host = host
        self.connections = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Origin:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.target = Target(self._host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._handler(reader, writer)  # type: ignore[misc]
        finally:
            writer.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and half-close when the peer does."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def connect(listener: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address of a listener."""
    host, _, port = listener.addresses[0].rpartition(":")  # type: ignore[attr-defined]
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def talk(listener: object, data: bytes) -> bytes:
    """Send `data`, half-close, and return everything that comes back."""
    reader, writer = await connect(listener)
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def flood(writer: asyncio.StreamWriter) -> int:
    """Write until the peer takes no more. Returns the number of bytes written."""
    sent = 0

    async def pour() -> None:
        nonlocal sent
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    pouring = asyncio.create_task(pour())
    before = -1
    async with asyncio.timeout(10):
        while sent != before:
            before = sent
            await asyncio.sleep(0.3)
    pouring.cancel()
    return sent


async def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` is true, for at most five seconds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)
