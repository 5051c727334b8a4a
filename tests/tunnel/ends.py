"""The two ends of a tunnel over real ENet, with a real exit, and services to dial."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.simulation import DatagramPipe, Path
from toxproxy.address import Target
from toxproxy.config.settings import GRACE, ExitSettings
from toxproxy.mux.limits import Limits
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.patience import Patience
from toxproxy.rules import Rules, parse_rule
from toxproxy.tunnel.events import Change, SessionEnd, SessionEvent
from toxproxy.tunnel.keeper import SessionKeeper
from toxproxy.tunnel.session import Session

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Ends:
    """The two ends of a tunnel, each with its session."""

    near_end: SessionKeeper
    far_end: SessionKeeper
    pipe: DatagramPipe
    changes: list[tuple[str, SessionEvent]] = field(default_factory=list)
    refusing: bool = False  # whether the near end's carrier takes no packets: its queue is full

    @property
    def near(self) -> Session:
        assert self.near_end.session is not None
        return self.near_end.session

    @property
    def far(self) -> Session:
        assert self.far_end.session is not None
        return self.far_end.session

    @property
    def ended(self) -> list[tuple[str, SessionEnd]]:
        """The session ends so far: the side that reported it, and the reason."""
        return [(side, what.reason) for side, what in self.changes if what.change is Change.ENDED]

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

    async def resumed(self) -> None:
        """Wait until the near end can open streams, on a link that works."""
        async with asyncio.timeout(20):
            while not self.near_end.ready:
                await asyncio.sleep(0.005)

    async def quiet(self) -> None:
        """Wait until neither side has a stream."""
        async with asyncio.timeout(30):
            await self.near.idle()
            await self.far.idle()


@contextlib.asynccontextmanager
async def tunnel(
    path: Path | None = None,
    limits: Limits | None = None,
    grace: float = GRACE,
    *,
    duplication: float = 0.0,
    reordering: float = 0.0,
    patience: Patience = Patience(),  # noqa: B008
) -> AsyncIterator[Ends]:
    pipe = DatagramPipe(1, path, duplication=duplication, reordering=reordering)
    exit = Exit(ExitSettings(connect_timeout=60), Rules((parse_rule("*:*"), parse_rule("*:*/udp"))))
    changes: list[tuple[str, SessionEvent]] = []

    def keeper(side: str, send: Callable[[Any, int], bool], host: Serving | None) -> SessionKeeper:
        def changed(what: SessionEvent) -> None:
            changes.append((side, what))

        return SessionKeeper(send, changed=changed, host=host, limits=limits, grace=grace)

    near = keeper("near", lambda *packet: not ends.refusing and pipe.near.send_from(*packet), None)
    far = keeper("far", pipe.far.send_from, Serving(exit, lambda: patience))
    ends = Ends(near, far, pipe, changes)
    for end, carrier in ((pipe.near, near.carrier), (pipe.far, far.carrier)):
        end.receive, end.batch_ended = carrier.packet_received, carrier.batch_ended
    for side in (far, near):
        side.reach()
    try:
        await ends.resumed()
        yield ends
    finally:
        await near.close("done")
        await far.close("done")
        pipe.close()


@contextlib.asynccontextmanager
async def service(handler: Handler) -> AsyncIterator[int]:
    """Run a TCP server. Yields its port."""

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
    """Answer with the bytes and their number, once the client has half-closed."""
    writer.write(b"%d" % len(await reader.read(-1)))
    writer.close()
