"""Links without a network, for tests and simulations: seeded, so that every run can be repeated.

`Simulation` joins two `MemoryLink`s in virtual time: no event loop, no waiting, the clock moves
when it is told to. `DatagramPipe` carries datagrams over a running event loop in real time, with
everything that a bad path does to them, for a real ENet to cope with.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.link.base import LinkEnd, LinkOwner

MAX_HELD = 4096  # datagrams that a pipe keeps back; more are lost
_LEAST_LATENESS = 0.001  # seconds: how far reordering reaches, at least, on a path without delay


@dataclass(frozen=True, slots=True)
class Path:
    """One direction of the way between two ends; both directions are alike."""

    delay: float = 0.0  # seconds
    loss: float = 0.0  # the share that is lost, 0 to below 1; 1, a cut, for a `DatagramPipe` only
    rate: float = math.inf  # bytes per second


@dataclass(slots=True)
class _Bottleneck:
    """Where bytes wait for the rate of the path."""

    rate: float
    busy_until: float = 0.0

    def pass_through(self, now: float, length: int) -> float:
        """When the last of `length` bytes that came `now` has left."""
        self.busy_until = max(self.busy_until, now) + length / self.rate
        return self.busy_until

    def queued(self, now: float) -> float:
        """Bytes that have not left yet."""
        return 0.0 if self.busy_until <= now else (self.busy_until - now) * self.rate


class Simulation:
    """Two linked ends, `near` and `far`, and their clock, in seconds from 0.

    `window` is what each end lets be in flight, in bytes. A frame that the path loses is sent
    again after `timeout` seconds, then after twice as long, and so on: until it is there the
    later frames of its channel wait, those of other channels do not. What an owner raises goes
    through to the caller of `advance`.
    """

    def __init__(
        self,
        seed: int,
        path: Path | None = None,
        *,
        window: int = 1024 * 1024,
        timeout: float = 0.2,
        channels: int = 255,
        frame_size: int = 1200,
    ) -> None:
        self.now = 0.0
        self.path = path or Path()
        self.timeout = timeout
        self.random = random.Random(seed)
        self.near = MemoryLink(self, window, channels, frame_size)
        self.far = MemoryLink(self, window, channels, frame_size)
        self.near.peer, self.far.peer = self.far, self.near
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0  # keeps what is due at the same time in the order in which it was planned

    @property
    def next_due(self) -> float | None:
        """When something happens next; None while everything is at rest."""
        return self._agenda[0][0] if self._agenda else None

    def connect(self, near: LinkOwner, far: LinkOwner) -> None:
        """Give the links their owners; both hear `link_up` after a round trip."""
        for link, owner in ((self.near, near), (self.far, far)):
            link.owner = owner
            self.plan(self.now + 2 * self.path.delay, link.up)

    def plan(self, when: float, action: Callable[[], None]) -> None:
        """Have `action` called when the clock passes `when`."""
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, action))

    def advance(self, to: float) -> None:
        """Let everything happen that is due until then."""
        while self._agenda and self._agenda[0][0] <= to:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        self.now = to

    def rest(self) -> None:
        """Advance until nothing is due any more."""
        while self.next_due is not None:
            self.advance(self.next_due)


class MemoryLink:
    """One end of a `Simulation`; a `Link`."""

    peer: MemoryLink

    def __init__(self, simulation: Simulation, window: int, channels: int, frame_size: int) -> None:
        self.channels = channels
        self.frame_size = frame_size
        self.round_trip: float | None = None
        self.owner: LinkOwner | None = None
        self._simulation = simulation
        self._window = window
        self._in_flight = 0
        self._bottleneck = _Bottleneck(simulation.path.rate)
        self._free_at = [0.0] * channels  # when the last frame of each channel is delivered

    def up(self) -> None:
        """The simulation's call: the link stands."""
        if self.owner is not None:
            self.round_trip = 2 * self._simulation.path.delay
            self.owner.link_up()

    def budget(self) -> int:
        """Bytes that fit into the window."""
        return 0 if self.round_trip is None else max(0, self._window - self._in_flight)

    def send(self, channel: int, frame: bytes) -> None:
        """Put one frame on its way."""
        simulation, path = self._simulation, self._simulation.path
        arrival = self._bottleneck.pass_through(simulation.now, len(frame)) + path.delay
        again = simulation.timeout
        while simulation.random.random() < path.loss:
            arrival += again
            again *= 2
        self._in_flight += len(frame)
        simulation.plan(arrival + path.delay, lambda: self._acknowledged(len(frame)))
        self._free_at[channel] = max(self._free_at[channel], arrival)
        simulation.plan(self._free_at[channel], lambda: self._deliver(channel, frame))

    def flush(self) -> None:
        """Nothing to do: frames leave with `send`."""

    def hold(self, channel: int, until: float) -> None:
        """Deliver no frame sent from now on before `until`, as if the first were lost again and again."""
        self._free_at[channel] = max(self._free_at[channel], until)

    def close(self) -> None:
        """Let go; the peer hears `link_down` after the path's delay."""
        if self.owner is not None:
            self.owner = None
            simulation = self._simulation
            simulation.plan(simulation.now + simulation.path.delay, self.peer._down)

    def _deliver(self, channel: int, frame: bytes) -> None:
        owner = self.peer.owner
        if owner is not None:
            owner.frame_received(channel, frame)
            owner.link_ready()

    def _acknowledged(self, length: int) -> None:
        self._in_flight -= length
        if self.owner is not None:
            self.owner.link_ready()

    def _down(self) -> None:
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.link_down(LinkEnd.PEER_ENDED)


class DatagramPipe:
    """Two ends, `near` and `far`, that pass datagrams to each other over the running event loop.

    Beside what `path` does, `duplication` of the datagrams arrive twice, `reordering` of them
    late, after up to two delays more, and `queue` bytes may wait for the rate; what finds the
    queue full is lost, silently, as in a router. Close it when done.
    """

    def __init__(
        self,
        seed: int,
        path: Path | None = None,
        *,
        duplication: float = 0.0,
        reordering: float = 0.0,
        queue: float = 256 * 1024,
    ) -> None:
        self.path = path or Path()
        self.duplication = duplication
        self.reordering = reordering
        self.queue = queue
        self.random = random.Random(seed)
        self.near = PipeEnd(self)
        self.far = PipeEnd(self)
        self.near.peer, self.far.peer = self.far, self.near

    def close(self) -> None:
        """Drop whatever is on its way; nothing is received any more, and `send` says False."""
        self.near.close()
        self.far.close()


class PipeEnd:
    """One end of a `DatagramPipe`. Set `receive` and `batch_ended` before the first datagram.

    `receive` gets each datagram; after those of one turn of the loop comes one `batch_ended`.
    Neither is called from within `send`.
    """

    peer: PipeEnd
    receive: Callable[[bytes], None]
    batch_ended: Callable[[], None]

    def __init__(self, pipe: DatagramPipe) -> None:
        self._pipe = pipe
        self._bottleneck = _Bottleneck(pipe.path.rate)
        self._loop = asyncio.get_running_loop()
        self._arrivals: list[tuple[float, int, bytes]] = []  # at this end
        self._count = 0  # keeps what arrives at the same time in order
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._predicate: Callable[[bytes], bool] | None = None
        self._held: list[bytes] = []
        self._release: asyncio.TimerHandle | None = None
        self._closed = False

    def send(self, datagram: bytes | bytearray | memoryview) -> bool:
        """Put a copy on its way to the other end. False once the pipe is closed."""
        if self._closed:
            return False
        copy = bytes(datagram)
        if self._predicate is None or not self._predicate(copy):
            self._pass_on(copy)
        elif len(self._held) < MAX_HELD:
            self._held.append(copy)
        return True

    def hold(self, predicate: Callable[[bytes], bool], seconds: float | None = None) -> None:
        """Keep back the datagrams sent here for which `predicate` is true, until `release`.

        With `seconds` the release comes by itself.
        """
        self.release()
        self._predicate = predicate
        if seconds is not None:
            self._release = self._loop.call_later(seconds, self.release)

    def release(self) -> None:
        """End a hold: what was kept goes on its way, in order."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        self._predicate = None
        held, self._held = self._held, []
        for datagram in held:
            self._pass_on(datagram)

    def close(self) -> None:
        """The pipe's call: drop everything."""
        self._closed = True
        self._arrivals.clear()
        self._held.clear()
        for timer in (self._timer, self._release):
            if timer is not None:
                timer.cancel()

    def _pass_on(self, datagram: bytes) -> None:
        pipe, chance = self._pipe, self._pipe.random.random
        now = self._loop.time()
        if self._bottleneck.queued(now) + len(datagram) > pipe.queue:
            return
        left = self._bottleneck.pass_through(now, len(datagram))
        if chance() < pipe.path.loss:
            return
        for _ in range(2 if chance() < pipe.duplication else 1):
            late = 2 * max(pipe.path.delay, _LEAST_LATENESS) * chance() if chance() < pipe.reordering else 0.0
            self.peer._expect(left + pipe.path.delay + late, datagram)

    def _expect(self, when: float, datagram: bytes) -> None:
        self._count += 1
        heapq.heappush(self._arrivals, (when, self._count, datagram))
        self._arm()

    def _arm(self) -> None:
        """Wake when the next datagram arrives, unless something wakes before."""
        due = self._arrivals[0][0]
        if self._timer is not None:
            if self._rings_at <= due:
                return
            self._timer.cancel()
        self._rings_at = due
        self._timer = self._loop.call_at(due, self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = self._loop.time()
        arrived: list[bytes] = []
        while self._arrivals and self._arrivals[0][0] <= now:
            arrived.append(heapq.heappop(self._arrivals)[2])
        if self._arrivals:
            self._arm()
        for datagram in arrived:
            if not self._closed:
                self.receive(datagram)
        if arrived and not self._closed:
            self.batch_ended()
