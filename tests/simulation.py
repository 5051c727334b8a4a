"""Links without a network. They are seeded, so that every run can be repeated.

`Simulation` joins two `MemoryLink`s in virtual time: there is no event loop, and the test advances the
clock. `DatagramPipe` carries datagrams over a running event loop in real time, with delay, loss,
duplication and reordering, for a real ENet.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.link.base import LinkEnd, LinkOwner

MAX_HELD = 4096  # datagrams that `PipeEnd.hold` keeps back; more are lost
_LEAST_LATENESS = 0.001  # seconds: the delay that reordering is based on, on a path without delay


@dataclass(frozen=True, slots=True)
class Path:
    """The path between two ends. Both directions have these properties."""

    delay: float = 0.0  # seconds
    loss: float = 0.0  # the share that is lost, from 0 to below 1; a `DatagramPipe` also takes 1, a cut
    rate: float = math.inf  # bytes per second


@dataclass(slots=True)
class _Bottleneck:
    """The queue in which bytes wait for the rate of the path."""

    rate: float
    busy_until: float = 0.0

    def pass_through(self, now: float, length: int) -> float:
        """The time at which the last of `length` bytes that came `now` will have left."""
        self.busy_until = max(self.busy_until, now) + length / self.rate
        return self.busy_until

    def queued(self, now: float) -> float:
        """Bytes in the queue."""
        return 0.0 if self.busy_until <= now else (self.busy_until - now) * self.rate


class Simulation:
    """Two linked ends, `near` and `far`, and their clock, in seconds from 0.

    `window` is the most bytes in flight from each end. A lost frame is retransmitted after `timeout`
    seconds, then after twice as long, and so on. Meanwhile later frames of its channel wait; those of
    other channels do not. Exceptions of an owner reach the caller of `advance`.
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
        self._count = 0  # keeps the order of actions that are due at the same time

    @property
    def next_due(self) -> float | None:
        """The time of the next action. None if nothing is planned."""
        return self._agenda[0][0] if self._agenda else None

    def connect(self, near: LinkOwner, far: LinkOwner) -> None:
        """Give the links their owners. Both get `link_up` after a round trip."""
        for link, owner in ((self.near, near), (self.far, far)):
            link.owner = owner
            self.plan(self.now + 2 * self.path.delay, link.up)

    def plan(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` when the clock reaches `when`."""
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, action))

    def advance(self, to: float) -> None:
        """Do everything that is due up to the time `to`, and set the clock to it."""
        while self._agenda and self._agenda[0][0] <= to:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        self.now = to

    def rest(self) -> None:
        """Advance until nothing is due any more."""
        while self.next_due is not None:
            self.advance(self.next_due)


class MemoryLink:
    """One end of a `Simulation`. A `Link`."""

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
        self._free_at = [0.0] * channels  # when each channel has delivered its last frame

    def up(self) -> None:
        """Called by the simulation: the link is up."""
        if self.owner is not None:
            self.round_trip = 2 * self._simulation.path.delay
            self.owner.link_up()

    def budget(self) -> int:
        """Bytes that still fit into the window."""
        return 0 if self.round_trip is None else max(0, self._window - self._in_flight)

    def send(self, channel: int, frame: bytes) -> None:
        """Send one frame."""
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
        """Does nothing: `send` has sent the frames."""

    def hold(self, channel: int, until: float) -> None:
        """Deliver no later frame of a channel before `until`, as if the first were lost again and again."""
        self._free_at[channel] = max(self._free_at[channel], until)

    def close(self) -> None:
        """Close the link. The peer gets `link_down` after the delay of the path."""
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

    `duplication` is the share of datagrams that arrive twice, `reordering` the share that arrive up to
    two delays late. At most `queue` bytes wait for the rate of `path`. A datagram that finds the queue
    full is lost without an error, as in a router. Close the pipe when done.
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
        """Drop all datagrams under way. Nothing is received any more, and `send` returns False."""
        self.near.close()
        self.far.close()


class PipeEnd:
    """One end of a `DatagramPipe`. Set `receive` and `batch_ended` before the first datagram.

    `receive` gets each datagram. `batch_ended` is called after those of one turn of the event loop.
    Neither is called from within `send`.
    """

    peer: PipeEnd
    receive: Callable[[bytes], None]
    batch_ended: Callable[[], None]

    def __init__(self, pipe: DatagramPipe) -> None:
        self._pipe = pipe
        self._bottleneck = _Bottleneck(pipe.path.rate)
        self._loop = asyncio.get_running_loop()
        self._arrivals: list[tuple[float, int, bytes]] = []  # the datagrams that are due at this end
        self._count = 0  # keeps the order of datagrams that arrive at the same time
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = 0.0
        self._predicate: Callable[[bytes], bool] | None = None
        self._held: list[bytes] = []
        self._release: asyncio.TimerHandle | None = None
        self._closed = False

    def send(self, datagram: bytes | bytearray | memoryview) -> bool:
        """Send a copy of a datagram to the other end. False if the pipe is closed."""
        if self._closed:
            return False
        copy = bytes(datagram)
        if self._predicate is None or not self._predicate(copy):
            self._pass_on(copy)
        elif len(self._held) < MAX_HELD:
            self._held.append(copy)
        return True

    def hold(self, predicate: Callable[[bytes], bool], seconds: float | None = None) -> None:
        """Keep back the datagrams sent at this end for which `predicate` is true, until `release`.

        With `seconds` they are released after that time.
        """
        self.release()
        self._predicate = predicate
        if seconds is not None:
            self._release = self._loop.call_later(seconds, self.release)

    def release(self) -> None:
        """End a hold: send what was kept back, in order."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        self._predicate = None
        held, self._held = self._held, []
        for datagram in held:
            self._pass_on(datagram)

    def close(self) -> None:
        """Called by the pipe: drop everything."""
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
        """Set a timer for the next arrival, unless an earlier one is set."""
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
