"""Hosts in virtual time: event loops that are joined by directions of a path.

What runs on a host is an `Endpoint`: packets come in, packets go out, and a time says when to look again.
"""

from __future__ import annotations

import random
from bisect import insort
from collections import deque
from operator import attrgetter
from typing import Protocol

from tests.recovery.path import Direction, Path, Way

TICK = 0.001  # an event loop under load looks no more often
BIN = 0.1  # seconds of a bar of `Host.bars`
_WAKE = attrgetter("wake")


class Endpoint(Protocol):
    """As `Recovery` is for its owner; packets are opaque, `size` says their bytes on the wire."""

    def receive(self, packet: object, now: float) -> None: ...
    def next_packet(self, now: float) -> object | None: ...
    def size(self, packet: object) -> int: ...
    @property
    def due(self) -> float: ...
    @property
    def received(self) -> int:
        """Bytes of use that came so far, each once."""
        ...


class Host:
    """An event loop with one endpoint. With `late`, it is at times so many seconds late."""

    def __init__(self, endpoint: Endpoint, begin: float = 0.0, late: float = 0.0, seed: int = 1) -> None:
        self.endpoint = endpoint
        self.begin, self.late = begin, late
        self._random = random.Random(seed)
        self._inbox: deque[tuple[float, int, object]] = deque()
        self._count = 0
        self._last = -1.0
        self.bars: list[int] = []  # received so far, at the end of each BIN
        self.wake = begin

    def join(self, out: Direction, peer: Host) -> None:
        self._out, self._peer = out, peer

    def deliver(self, at: float, packet: object) -> None:
        self._count += 1
        inbox = self._inbox
        if not inbox or at >= inbox[-1][0]:
            inbox.append((at, self._count, packet))
        else:
            insort(inbox, (at, self._count, packet))
        if at < self.wake:
            self.wake = max(at, self._last + TICK)

    def run(self, now: float) -> None:
        endpoint, inbox = self.endpoint, self._inbox
        while inbox and inbox[0][0] <= now:
            endpoint.receive(inbox.popleft()[2], now)
        while (packet := endpoint.next_packet(now)) is not None:
            at = self._out.carry(now, endpoint.size(packet))
            if at is not None:
                self._peer.deliver(at, packet)
        self._last = now
        bar = int(now / BIN)
        if len(self.bars) <= bar:
            self.bars += [endpoint.received] * (bar + 1 - len(self.bars))
        else:
            self.bars[bar] = endpoint.received
        at = endpoint.due
        if inbox and inbox[0][0] < at:
            at = inbox[0][0]
        self.wake = max(at, now + TICK)
        if self.late and self._random.random() < 0.05:
            self.wake += self._random.random() * self.late

    def goodput(self, begin: float, end: float) -> float:
        """Bytes of use per second that came between two times, which are multiples of BIN."""
        first, last = round(begin / BIN) - 1, round(end / BIN) - 1
        bars = self.bars
        return (bars[min(last, len(bars) - 1)] - (bars[min(first, len(bars) - 1)] if first >= 0 else 0)) / (
            end - begin
        )

    def silence(self, begin: float, end: float) -> float:
        """The longest time without a byte between two times, in whole BINs."""
        bars = self.bars + [self.bars[-1]] * max(0, round(end / BIN) - len(self.bars))
        longest = run = 0
        for bar in range(max(1, round(begin / BIN)), round(end / BIN)):
            run = run + 1 if bars[bar] == bars[bar - 1] else 0
            longest = max(longest, run)
        return longest * BIN


class World:
    """A path and the flows over it."""

    def __init__(
        self,
        path: Path,
        seed: int = 1,
        down: list[tuple[float, Way]] | None = None,
        up: list[tuple[float, Way]] | None = None,
    ) -> None:
        self.path = path
        self.down, self.up = Direction(path.down, seed, down or ()), Direction(path.up, seed + 1000, up or ())
        self._hosts: list[Host] = []
        self.now = 0.0

    def join(self, near: Endpoint, far: Endpoint, begin: float = 0.0, late: float = 0.0) -> tuple[Host, Host]:
        """A flow: `far` sends down to `near`. Returns their hosts, `near` first."""
        hosts = Host(near, begin, late, seed=7), Host(far, begin, late, seed=8)
        hosts[0].join(self.up, hosts[1])
        hosts[1].join(self.down, hosts[0])
        self._hosts += hosts
        return hosts

    def cut(self, begin: float, end: float) -> None:
        for direction in (self.down, self.up):
            direction.cuts.append((begin, end))

    def run(self, until: float) -> World:
        hosts = self._hosts
        while True:
            host = min(hosts, key=_WAKE)
            if host.wake >= until:
                self.now = until
                return self
            host.run(host.wake)
