"""Target: a session of two real sides over links that lose, double and reorder packets, and end."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Callable
from contextlib import suppress

from fuzz import scene
from fuzz.choices import Choices
from fuzz.multiplexer import accounts
from toxproxy.address import Target
from toxproxy.dialer import P
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.link.base import LinkEnd
from toxproxy.mux.limits import Limits
from toxproxy.outbound.serving import Serving
from toxproxy.recovery.packet import introduction
from toxproxy.recovery.sent import PACKET_SIZE
from toxproxy.tunnel.events import Change, Closed, PeerClosed, SessionEvent
from toxproxy.tunnel.session import Session

_MOVES_MOST = 60
_DELAYS = (0.01, 0.0005, 0.2)  # seconds, one way
_PAUSES = (0.02, 0.3, 0.001, 3.0, 30.0)
_LATE = (0.001, 0.02, 0.5, 5.0)
_PATIENCE = 900.0  # seconds until all has arrived, on a path that is good from now on
_STREAMS_MOST = 6
_LIMITS = (
    Limits(
        early_window=300, least_window=300, window=2000, most_window=8000, session_window=20_000, streams=4
    ),
    Limits(),
)
_REFUSED, _MUTE = 1, 2  # ports


def session(data: bytes) -> None:
    """Links come and go: every byte of every stream arrives once and in order, and nothing is left."""
    scene.run(Game(Choices(data)).play(), virtual=True)


class Line:
    """A link as one side has it. Its packets reach the other side's line of the same number."""

    def __init__(self, game: Game, number: int, *, client: bool) -> None:
        self.number = number
        self.heard = 0.0
        self.closed = False
        self._game, self._client = game, client
        self._queue: list[bytes] = []

    def send(self, packet: bytes) -> None:
        assert not self.closed
        assert 0 < len(packet) <= PACKET_SIZE
        self._queue.append(packet)

    def flush(self) -> int:
        queue, self._queue = self._queue, []
        refused = self._game.refuses(len(queue))
        for packet in queue[: len(queue) - refused]:
            self._game.leaves(packet, self.number, to_client=not self._client)
        return refused

    def close(self, farewell: bytes = b"") -> None:
        assert not self.closed
        self.closed = True
        if farewell:
            self._game.leaves(farewell, self.number, to_client=not self._client)

    def fail(self, reason: LinkEnd) -> None:
        raise NotImplementedError


class _Echo:
    """Dials targets: what is sent to one comes back, until the end of the one comes back, too."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        if target.port == _REFUSED:
            raise StreamRefused(Refusal.CONNECTION_REFUSED, "nobody listens")
        near, far = socket.socketpair()
        task = asyncio.create_task(self._serve(far, target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.get_running_loop().create_connection(protocol_factory, sock=near)

    async def _serve(self, end: socket.socket, target: Target) -> None:
        reader, writer = await asyncio.open_connection(sock=end)
        with suppress(ConnectionError):
            while data := await reader.read(5000):
                if target.port != _MUTE:
                    writer.write(data)
                    await writer.drain()
            writer.write_eof()
            await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async def over(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks)


class Game:
    """Two sides, the links between them, and applications at the client's."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.ended: list[tuple[str, SessionEvent]] = []
        self.limits = choices.pick(_LIMITS), choices.pick(_LIMITS)
        self.delay = choices.pick(_DELAYS)
        self.number = 0  # of the newest link
        self.near: Line | None = None
        self.far: Line | None = None
        self.server: Session | None = None
        self.streams: set[asyncio.Task[None]] = set()
        self.fill = random.Random(7)

    async def play(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.echo = _Echo()
        self.client = Session(changed=lambda what: self.changed("client", what), limits=self.limits[0])
        self.begin()
        await asyncio.sleep(self.choices.pick(_PAUSES))
        moves = 0
        while self.choices and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            await asyncio.sleep(self.choices.pick(_PAUSES))
            self.check()
            moves += 1
        self.choices.rest()  # a good path from now on
        if self.near is None:
            self.begin()
        if self.streams:
            _, late = await asyncio.wait(self.streams, timeout=_PATIENCE)
            assert not late, "not all arrived"
        for task in self.streams:
            task.result()
        await self.rest()
        await self.end()

    async def rest(self) -> None:
        """When all streams ended, nothing is left of them, and both sides fall silent."""
        assert self.server is not None or not self.streams
        async with asyncio.timeout(_PATIENCE):
            await self.client.idle()
            if self.server is not None:
                await self.server.idle()
            await self.echo.over()
            await asyncio.sleep(60)
        for each in (self.client, self.server):
            if each is not None:
                assert not each.multiplexer.streams
                assert each.multiplexer.memory.taken == 0
                assert each.recovery.flight.bytes == 0
                assert not each.multiplexer.scheduler.wants_to_send
        assert not self.ended

    async def end(self) -> None:
        self.client.close("enough")
        await asyncio.sleep(1)
        assert self.ended[0] == ("client", SessionEvent(Change.ENDED, Closed("enough")))
        if self.server is not None:
            assert len(self.ended) == 2
            what = self.ended[1][1]
            assert what.change is Change.ENDED
            assert isinstance(what.reason, PeerClosed)

    def changed(self, who: str, what: SessionEvent) -> None:
        if what.change is Change.ENDED:
            self.ended.append((who, what))

    def check(self) -> None:
        assert not self.ended
        for each in (self.client, self.server):
            if each is not None:
                accounts(each.multiplexer)
                flight = each.recovery.flight
                assert flight.bytes == sum(packet.size for packet in flight._packets.values())

    # Links

    def begin(self) -> None:
        """The client begins a link."""
        self.number += 1
        self.near = Line(self, self.number, client=True)
        self.client.attach(self.near)
        self.client.link_up()

    def cut(self) -> None:
        """The link is lost: the client notices, and the server perhaps."""
        if not self.client.multiplexer.established:
            return
        if self.near is not None:
            self.near = None
            self.client.link_down(LinkEnd.SILENT)
        if self.choices.integer(1) and self.far is not None and self.server is not None:
            self.far = None
            self.server.link_down(LinkEnd.SILENT)

    def cut_and_begin(self) -> None:
        self.cut()
        self.begin_again()

    def begin_again(self) -> None:
        if self.near is None:
            self.begin()

    def refuses(self, count: int) -> int:
        """How many of the last packets the carrier does not take."""
        if self.choices and self.choices.integer(31) == 1:
            return min(count, 1 + self.choices.integer(7))
        return 0

    def leaves(self, packet: bytes, number: int, *, to_client: bool) -> None:
        """The path does with a packet what the choices say."""
        copies, late = 1, 0.0
        match self.choices.integer(15) if self.choices else 0:
            case 1 | 2:
                copies = 0
            case 3:
                copies = 2
            case 4 | 5:
                late = self.choices.pick(_LATE)
        arrives = self.arrives_at_client if to_client else self.arrives_at_server
        for _ in range(copies):
            self.loop.call_later(self.delay + late, arrives, packet, number)
            late += 0.003

    def arrives_at_client(self, packet: bytes, number: int) -> None:
        if self.near is not None and self.near.number == number and not self.near.closed:
            self.client.packet_received(packet)
            self.client.link_ready()

    def arrives_at_server(self, packet: bytes, number: int) -> None:
        if number != self.number:
            return  # of an earlier epoch
        if self.far is None or self.far.number != number:
            if (ids := introduction(packet)) is None:
                return
            self.meet(ids, number)
        assert self.server is not None
        if self.far is not None and not self.far.closed:
            self.server.packet_received(packet)
            self.server.link_ready()

    def meet(self, ids: tuple[int, int], number: int) -> None:
        """The first packet on a link that the server sees."""
        if self.server is None:
            self.server = Session(
                changed=lambda what: self.changed("server", what),
                introduced=ids[0],
                host=Serving(self.echo),
                limits=self.limits[1],
            )
        else:
            assert self.server.is_meant(*ids)
            if self.far is not None:
                self.far = None
                self.server.link_down(LinkEnd.REPLACED)
        self.far = Line(self, number, client=False)
        self.server.attach(self.far)
        self.server.link_up()

    # Applications

    def dial(self) -> None:
        running = sum(not task.done() for task in self.streams)
        if self.client.multiplexer.established and running < _STREAMS_MOST:
            self.streams.add(asyncio.create_task(self.use(self.choices.integer(255))))

    async def use(self, how: int) -> None:
        """One stream from its beginning to its end."""
        port = (80, 80, 80, _MUTE, _REFUSED)[how % 5]
        data = self.fill.randbytes((10, 700, 20_000, 3)[how // 5 % 4]) * (1, 3)[how // 20 % 2]
        reader = asyncio.StreamReader()
        try:
            transport, protocol = await self.client.dial(
                lambda: asyncio.StreamReaderProtocol(reader),
                Target("host.example", port),
                early=bool(how // 40 % 2),
                compress=bool(how // 80 % 2),
            )
        except StreamRefused as error:
            if port != _REFUSED and error.code is not Refusal.TOO_MANY_STREAMS:
                raise
            return
        writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
        if how // 160 == 1 and port == 80:
            transport.write(data)
            transport.abort()
            return
        refused = port == _REFUSED
        try:
            got = await self.talk(reader, writer, data)
            assert not refused
            assert got == (data if port == 80 else b"")
        except StreamRefused as error:
            if not refused and error.code is not Refusal.TOO_MANY_STREAMS:
                raise

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
        reading = asyncio.ensure_future(reader.read(-1))
        try:
            writer.write(data)
            await writer.drain()
            writer.write_eof()
            got = await reading
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, StreamRefused):
                await reading
            writer.close()
        with suppress(StreamRefused):
            await writer.wait_closed()
        return got

    def rest_a_while(self) -> None: ...


MOVES: tuple[Callable[[Game], None], ...] = (
    Game.dial,
    Game.dial,
    Game.dial,
    Game.cut,
    Game.begin_again,
    Game.cut_and_begin,
    Game.rest_a_while,
)
