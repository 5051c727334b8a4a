"""Two sessions over real ENet, and services to dial through them with a real exit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.link.rig import wire
from toxproxy.address import Target
from toxproxy.config import ExitSettings
from toxproxy.exits import Exit
from toxproxy.link.base import LinkOwner
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.link.memory import DatagramPipe, Path
from toxproxy.mux import Limits
from toxproxy.rules import Rules
from toxproxy.session import Session

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Ends:
    """The two sessions of a tunnel."""

    near: Session
    far: Session
    near_carrier: Carrier
    far_carrier: Carrier
    ended: list[tuple[str, str]] = field(default_factory=list)

    async def open(
        self, port: int, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        transport, protocol = await self.near.dial(
            lambda: asyncio.StreamReaderProtocol(reader),
            Target("127.0.0.1", port),
            early=early,
            compress=compress,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def quiet(self) -> None:
        """Both sides have forgotten every stream."""
        async with asyncio.timeout(10):
            await self.near.idle()
            await self.far.idle()


@contextlib.asynccontextmanager
async def tunnel(path: Path | None = None, limits: Limits | None = None) -> AsyncIterator[Ends]:
    pipe = DatagramPipe(1, path)
    exit = Exit(ExitSettings(connect_timeout=5), Rules())
    sessions: dict[str, Session] = {}
    ended: list[tuple[str, str]] = []
    established = asyncio.Event()

    def owner(side: str) -> Callable[[EnetLink], LinkOwner]:
        def own(link: EnetLink) -> LinkOwner:
            sessions[side] = Session(
                link,
                client=side == "near",
                exit=exit if side == "far" else None,
                limits=limits,
                on_established=established.set if side == "near" else lambda: None,
                on_end=lambda reason: ended.append((side, reason)),
            )
            return sessions[side]

        return own

    near, far = wire(pipe, owner("near"), owner("far"))
    near.connect()
    try:
        async with asyncio.timeout(10):
            await established.wait()
        yield Ends(sessions["near"], sessions["far"], near, far, ended)
    finally:
        for session in sessions.values():
            session.close("done")
        await near.close()
        await far.close()
        pipe.close()
        exit.close()


@contextlib.asynccontextmanager
async def service(handler: Handler) -> AsyncIterator[int]:
    """A TCP server; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def whole_then_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers only after the end of what it was sent."""
    writer.write(b"%d" % len(await reader.read(-1)))
    writer.close()
