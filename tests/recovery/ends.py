"""Two recoveries joined in virtual time, with sources that know what arrived."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.recovery.packet import ids
from toxproxy.recovery.recovery import Recovery


class Numbers:
    """A source of numbered messages of `size` bytes. It sends each until it is told that it was delivered."""

    def __init__(self, size: int = 100) -> None:
        self.size = size
        self.waiting: list[int] = []
        self.confirmed: set[int] = set()
        self.got: Counter[int] = Counter()
        self.refuses: Callable[[int], bool] = lambda number: False

    def offer(self, count: int, first: int = 0) -> None:
        self.waiting.extend(range(first, first + count))

    @property
    def wants_to_send(self) -> bool:
        return bool(self.waiting)

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> object | None:
        numbers: list[int] = []
        while self.waiting and room >= self.size:
            numbers.append(self.waiting.pop(0))
            pieces.append(numbers[-1].to_bytes(4).ljust(self.size, b"."))
            room -= self.size
        return numbers or None

    def delivered(self, contents: object) -> None:
        assert isinstance(contents, list)
        self.confirmed.update(contents)

    def lost(self, contents: object) -> None:
        assert isinstance(contents, list)
        self.waiting[:0] = [number for number in contents if number not in self.confirmed]

    def receive(self, packet: bytes, start: int) -> bool:
        numbers = [int.from_bytes(packet[at : at + 4]) for at in range(start, len(packet), self.size)]
        if any(map(self.refuses, numbers)):
            return False
        self.got.update(numbers)
        return True


@dataclass
class End:
    recovery: Recovery
    source: Numbers
    sent: int = 0  # packets


class Pair:
    """A client and a server, `near` and `far`, and a path with `delay` seconds each way.

    `drops` decides about each packet, given the sending end and the packet. `lateness` is by how many
    seconds a packet may come later than the delay, at random.
    """

    def __init__(self, seed: int = 1, *, delay: float = 0.025, size: int = 100) -> None:
        self.now = 0.0
        self.delay = delay
        self.lateness = 0.0
        self.doubles = 0.0
        self.random = random.Random(seed)
        self.drops: Callable[[End, bytes], bool] = lambda end, packet: False
        self.near, self.far = (
            End(Recovery(source, source.receive, 0.0), source) for source in (Numbers(size), Numbers(size))
        )
        self.near.recovery.introduction = ids(1, 0)
        self.link = 0  # packets of an earlier link do not arrive
        self._arrivals: list[tuple[float, int, int, End, bytes]] = []
        self._count = 0

    def connect(self) -> None:
        """Begin the first link, or another one."""
        self.link += 1
        for end in (self.near, self.far):
            if self.link > 1:
                end.recovery.link_down(self.now)
            end.recovery.link_up(self.now)

    def run(self, seconds: float) -> None:
        """Let the time pass."""
        until = self.now + seconds
        while True:
            for end in (self.near, self.far):
                self._pump(end)
            due = min(self.near.recovery.due, self.far.recovery.due)
            if self._arrivals:
                due = min(due, self._arrivals[0][0])
            due = max(due, self.now + 1e-4)
            if due > until:
                self.now = until
                return
            self.now = due
            while self._arrivals and self._arrivals[0][0] <= self.now:
                _, _, link, end, packet = heapq.heappop(self._arrivals)
                if link == self.link:
                    end.recovery.receive(packet, self.now)

    def _pump(self, end: End) -> None:
        other = self.far if end is self.near else self.near
        while (packet := end.recovery.next_packet(self.now)) is not None:
            end.sent += 1
            if self.drops(end, packet):
                continue
            for _ in range(2 if self.random.random() < self.doubles else 1):
                self._count += 1
                when = self.now + self.delay + self.random.random() * self.lateness
                heapq.heappush(self._arrivals, (when, self._count, self.link, other, packet))
