"""A path without a network. It is seeded, so that every run can be repeated.

`DatagramPipe` carries datagrams over a running event loop in real time, with delay, loss, duplication and
reordering, for a real ENet.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cffi

_ffi = cffi.FFI()

MAX_HELD = 4096  # datagrams that `PipeEnd.hold` keeps back; more are lost
_LEAST_LATENESS = 0.001  # seconds: the delay that reordering is based on, on a path without delay


@dataclass(frozen=True, slots=True)
class Path:
    """The path between two ends. Both directions have these properties."""

    delay: float = 0.0  # seconds
    loss: float = 0.0  # the share that is lost, from 0 to 1; 1 is a cut
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

    def send_from(self, pointer: Any, length: int) -> bool:
        """`send` for a C pointer, as a carrier calls it."""
        return self.send(_ffi.buffer(pointer, length))

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
