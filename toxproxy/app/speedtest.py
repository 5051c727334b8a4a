"""The method `speedtest`: the rate to and from a server, the loss, and what the load adds to pings."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from toxproxy.address import Target
from toxproxy.app.observer import Observer
from toxproxy.app.orders import expect, find_peer, number, optional_text
from toxproxy.control.encoding import encoded
from toxproxy.control.server import Method, Params
from toxproxy.control.speeds import DirectionSnapshot, SpeedPhase, SpeedSnapshot
from toxproxy.errors import Refusal, StreamRefused, ToxproxyError
from toxproxy.outbound.service import COUNT, HOST, Port, noise
from toxproxy.recovery.recovery import Recovery
from toxproxy.tunnel.friend import Friend, Phase

_PINGS = 5  # before the load
_EVERY = 0.2  # seconds between two pings, and between two results
_PATIENCE = 3.0  # seconds that a ping waits at most
_LEAST, _MOST, _USUAL = 2.0, 10.0, 5.0  # seconds of each direction
_PIECES = 16  # of 256 KiB that are written in a row: more than any buffer of a stream has room for


class Speedtest:
    """One test at a time, at a client. The server answers it itself; see `outbound.service`."""

    def __init__(self, observer: Observer, friends: Callable[[], Iterable[Friend]]) -> None:
        self._observer = observer
        self._friends = friends
        self._running = False

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names in requests."""
        return {"speedtest": self.speedtest}

    async def speedtest(self, params: Params) -> AsyncGenerator[object, None]:
        """`SpeedSnapshot`s, the last with everything. Each direction takes `seconds` (5, from 2 to 10)."""
        expect(params, "peer", "seconds")
        friend = find_peer(self._observer, self._friends(), optional_text(params, "peer"))
        seconds = number(params, "seconds", _USUAL, least=_LEAST, most=_MOST)
        if self._running:
            raise ToxproxyError("a speed test is running already")
        if friend.phase is not Phase.READY:
            raise ToxproxyError("the server is not connected: toxproxy doctor says why")
        self._running = True
        try:
            peer = self._observer.peer(friend)
            shot = SpeedSnapshot(
                peer_key=peer.key, path=peer.path, phase=SpeedPhase.LATENCY, progress_share=0.0,
                bytes_per_s=None, idle_rtt_ms=None, download=None, upload=None,
            )  # fmt: skip
            yield encoded(shot)
            trips = [await _ping(friend, pause=_EVERY) for _ in range(_PINGS)]
            shot = replace(shot, idle_rtt_ms=_median(trips))
            for phase, run in ((SpeedPhase.DOWNLOAD, _Down), (SpeedPhase.UPLOAD, _Up)):
                direction = await run.begin(friend)
                try:
                    while (share := direction.progress(seconds)) < 1:
                        rate = direction.rate
                        yield encoded(replace(shot, phase=phase, progress_share=share, bytes_per_s=rate))
                        await direction.ping(friend)
                    result = direction.result()
                finally:
                    direction.end()
                if phase is SpeedPhase.DOWNLOAD:
                    shot = replace(shot, download=result)
                else:
                    shot = replace(shot, upload=result)
            yield encoded(replace(shot, phase=SpeedPhase.FINISHED, progress_share=1.0))
        finally:
            self._running = False


@dataclass
class _Direction(asyncio.Protocol):
    """A stream to the server itself. `total` bytes have arrived, the last of them at `heard`."""

    friend: Friend
    before: tuple[Recovery, int, int] | None = None  # counts of packets at the beginning
    began: float = 0.0
    total: int = 0
    heard: float = 0.0
    trips: list[float | None] = field(default_factory=list)
    transport: asyncio.Transport | None = None
    lost: Exception | None = None
    over: bool = False

    port = Port.GENERATE

    @classmethod
    async def begin(cls, friend: Friend) -> _Direction:
        """Open the stream. Raises `ToxproxyError`."""
        direction = cls(friend)
        direction.before = direction.counts()
        try:
            async with asyncio.timeout(_PATIENCE * 2):
                await friend.dial(lambda: direction, Target(HOST, direction.port), compress=False)
        except StreamRefused as refused:
            raise ToxproxyError(_why(refused)) from None
        except TimeoutError:
            raise ToxproxyError("the server does not answer at the moment: try again") from None
        return direction

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.began = asyncio.get_running_loop().time()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over, self.lost = True, exc

    def progress(self, seconds: float) -> float:
        """The share of the time that is over. Raises `ToxproxyError` if the stream has ended."""
        if self.over:
            raise ToxproxyError(f"the connection was lost during the test: {self.lost or 'it ended'}")
        return (asyncio.get_running_loop().time() - self.began) / seconds

    def arrived(self, count: int) -> None:
        """So many bytes have arrived by now, all together."""
        self.total, self.heard = count, asyncio.get_running_loop().time()

    @property
    def rate(self) -> float:
        """Bytes a second, the beginning included: as a download of that time."""
        return self.total / (self.heard - self.began) if self.heard > self.began else 0.0

    async def ping(self, friend: Friend) -> None:
        """Measure the round trip, and wait until the next result is due."""
        self.trips.append(await _ping(friend, pause=_EVERY))

    def result(self) -> DirectionSnapshot:
        """What was measured."""
        return DirectionSnapshot(
            moved_bytes=self.total,
            bytes_per_s=round(self.rate, 1),
            loss_share=_share(*self.losses()),
            rtt_ms=_median(self.trips),
        )

    def counts(self) -> tuple[Recovery, int, int] | None:
        """Packets in this direction that were lost, of how many, in the session that there is."""
        if self.friend.session is None:
            return None
        recovery = self.friend.session.recovery
        return recovery, *self.counted(recovery)

    def counted(self, recovery: Recovery) -> tuple[int, int]:
        """Packets in this direction that were lost, of how many, since the session began."""
        raise NotImplementedError

    def losses(self) -> tuple[int, int]:
        """The same since the beginning; none of another session."""
        before, now = self.before, self.counts()
        if before is None or now is None or now[0] is not before[0]:
            return 0, 0
        return max(0, now[1] - before[1]), now[2] - before[2]

    def end(self) -> None:
        """Reset the stream."""
        if self.transport is not None:
            self.transport.abort()


class _Down(_Direction):
    """A download. What was lost shows in the numbers of the packets that came."""

    def data_received(self, data: bytes) -> None:
        self.arrived(self.total + len(data))

    def counted(self, recovery: Recovery) -> tuple[int, int]:
        received, numbered = recovery.received.count, recovery.received.largest
        return numbered - received, numbered


class _Up(_Direction):
    """An upload. The server says how much it has taken."""

    port = Port.DISCARD

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._rest = b""
        self._full = False
        self.resume_writing()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        for _ in range(_PIECES):
            if self._full or self.over or self.transport is None:
                return
            self.transport.write(noise())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        whole = len(data) - len(data) % COUNT.size
        self._rest = data[whole:]
        if whole:
            self.arrived(COUNT.unpack_from(data, whole - COUNT.size)[0])

    def counted(self, recovery: Recovery) -> tuple[int, int]:
        return recovery.lost, recovery.flight.next_number - 1


async def _ping(friend: Friend, *, pause: float) -> float | None:
    """The seconds of a round trip, None if there was none. It takes `pause` seconds or longer."""
    loop = asyncio.get_running_loop()
    began, trip = loop.time(), None
    try:
        async with asyncio.timeout(_PATIENCE):
            trip = await friend.ping()
    except (StreamRefused, TimeoutError):
        pass
    await asyncio.sleep(began + pause - loop.time())
    return trip


def _median(trips: list[float | None]) -> float | None:
    known = [trip for trip in trips if trip is not None]
    return round(1000 * statistics.median(known), 1) if known else None


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _why(refused: StreamRefused) -> str:
    if refused.code in (Refusal.NOT_PERMITTED, Refusal.NAME_NOT_FOUND):
        return "the server has no speed test: it runs an older toxproxy"
    return f"the server refuses the test: {refused.text or refused.code.words}"
