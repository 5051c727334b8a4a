"""Target: two recoveries, and a hostile path between them, in virtual time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from fuzz.choices import Choices
from fuzz.peer import damaged
from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery.packet import ids
from toxproxy.recovery.recovery import Recovery

_MOVES_MOST = 60
_DELAYS = (0.02, 0.0001, 0.3)  # seconds, one way
_STEPS = (0.05, 0.001, 1.0, 0.3, 20.0)  # seconds that pass in a move
_LATE = (0.001, 0.01, 0.1, 1.0, 5.0)  # seconds that a packet or a timer comes later
_PATIENCE = 120.0  # seconds until all has arrived, on a path that is good from now on
_EVENTS_MOST = 50_000
_SIZES = (100, 12, 600)  # bytes of a message, its number and a checksum among them


def path(data: bytes) -> None:
    """Packets are lost, doubled, late or damaged: all arrives in the end, and nothing false is confirmed."""
    Path(Choices(data)).play()


@dataclass
class Messages:
    """A source of numbered messages. It sends each until it is told that it was delivered."""

    choices: Choices
    size: int
    offered: int = 0
    waiting: list[int] = field(default_factory=list)
    confirmed: set[int] = field(default_factory=set)
    got: set[int] = field(default_factory=set)

    @property
    def wants_to_send(self) -> bool:
        return bool(self.waiting)

    def offer(self, count: int) -> None:
        self.waiting.extend(range(self.offered, self.offered + count))
        self.offered += count

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> object | None:
        numbers: list[int] = []
        while self.waiting and room >= self.size:
            numbers.append(self.waiting.pop(0))
            message = numbers[-1].to_bytes(4).ljust(self.size - 4, b".")
            pieces.append(message + crc32(message).to_bytes(4))
            room -= self.size
        return numbers or None

    def delivered(self, contents: object) -> None:
        assert isinstance(contents, list)
        self.confirmed.update(contents)

    def lost(self, contents: object) -> None:
        assert isinstance(contents, list)
        self.waiting[:0] = [number for number in contents if number not in self.confirmed]

    def receive(self, packet: bytes, start: int) -> bool:
        if self.choices and self.choices.integer(31) == 1:
            return False
        numbers = set()
        for at in range(start, len(packet), self.size):
            message, check = packet[at : at + self.size - 4], packet[at + self.size - 4 : at + self.size]
            if crc32(message) != int.from_bytes(check):
                raise RemoteProtocolError("a damaged message")
            numbers.add(int.from_bytes(message[:4]))
        self.got |= numbers
        return True


class End:
    """One side."""

    def __init__(self, choices: Choices, size: int, now: float) -> None:
        self.source = Messages(choices, size)
        self.recovery = Recovery(self.source, self.source.receive, now)
        self.pumped_at = -math.inf  # where the timer came in the past: it may, once
        self.idle = 0


class Path:
    """Two ends, and packets on their way between them."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.now = choices.pick((0.0, 1e6))
        self.delay = choices.pick(_DELAYS)
        size = choices.pick(_SIZES)
        self.ends = (End(choices, size, self.now), End(choices, size, self.now))
        self.ends[0].recovery.introduction = ids(1, 0)
        self.link = 0  # packets of an earlier link do not arrive
        self.honest = True  # nothing was damaged: damaged numbers acknowledge other packets
        self.arrivals: list[tuple[float, int, int, int, bytes]] = []
        self.count = 0

    def play(self) -> None:
        self.connect()
        moves = 0
        try:
            while self.choices and moves < _MOVES_MOST:
                self.choices.pick(MOVES)(self)
                self.run(self.choices.pick(_STEPS))
                moves += 1
            self.choices.rest()  # a good path from now on
            self.connect()
            self.run(_PATIENCE, until_done=True)
        except RemoteProtocolError:
            assert not self.honest
            return
        if self.honest:
            self.arrived()

    def arrived(self) -> None:
        """All did, and both sides are at rest."""
        for end, other in zip(self.ends, self.ends[::-1], strict=True):
            assert other.source.got == set(range(end.source.offered)), "not all arrived"
            assert end.source.confirmed == other.source.got, "not all was confirmed"
            flight = end.recovery.flight
            assert flight.bytes == 0
            assert end.recovery.due == math.inf

    # Moves

    def connect(self) -> None:
        """Another link."""
        if self.link:
            for end in self.ends:
                end.recovery.link_down(self.now)
        self.link += 1
        for end in self.ends:
            end.recovery.link_up(self.now)

    def offer(self) -> None:
        self.choices.pick(self.ends).source.offer(self.choices.integer(60))

    def offer_more(self) -> None:
        self.choices.pick(self.ends).source.offer(400)

    def rest(self) -> None: ...

    # Time

    def run(self, seconds: float, *, until_done: bool = False) -> None:
        until, events = self.now + seconds, 0
        while not (until_done and self.done()):
            events += 1
            assert events < _EVENTS_MOST, "it does not end"
            due = min(self.pump(0), self.pump(1))
            if self.arrivals:
                due = min(due, self.arrivals[0][0])
            if due > until:
                assert not until_done or not self.honest, "it does not arrive in time"
                self.now = until
                return
            self.now = max(due, self.now)
            if self.choices and self.choices.integer(15) == 1:  # the event loop is late
                self.now += self.choices.pick(_LATE)
            while self.arrivals and self.arrivals[0][0] <= self.now:
                _, _, link, to, packet = heapq.heappop(self.arrivals)
                if link == self.link:
                    self.ends[to].recovery.receive(packet, self.now)

    def done(self) -> bool:
        return not self.arrivals and all(
            not end.source.waiting and not end.recovery.flight.bytes and end.recovery.due == math.inf
            for end in self.ends
        )

    def pump(self, which: int) -> float:
        """All leaves that may leave now. Returns when this end's timer is due."""
        end = self.ends[which]
        left = 0
        known = end.source.confirmed
        while (packet := end.recovery.next_packet(self.now)) is not None:
            left += 1
            assert left <= 5000, "it does not end"
            if self.choices and self.choices.integer(31) == 1:
                end.recovery.refused(1, self.now)
            else:
                self.leave(which, packet)
        assert not self.honest or known <= self.ends[1 - which].source.got, (
            "it was confirmed and is not there"
        )
        due = end.recovery.due
        if due > self.now or left:
            end.idle = 0
        else:
            end.idle += 1
            assert end.idle < 4, "the timer is due, and nothing is to be done"
        return due if due > self.now else self.now + 1e-6

    def leave(self, which: int, packet: bytes) -> None:
        """The path does with a packet what the choices say."""
        copies, late = 1, 0.0
        match self.choices.integer(15) if self.choices else 0:
            case 1 | 2:
                copies = 0
            case 3:
                copies = 2
            case 4 | 5:
                late = self.choices.pick(_LATE)
            case 6:
                changed = damaged(self.choices, packet)
                self.honest = self.honest and changed == packet
                packet = changed
        for _ in range(copies):
            if not packet:
                continue
            self.count += 1
            heapq.heappush(
                self.arrivals, (self.now + self.delay + late, self.count, self.link, 1 - which, packet)
            )
            late += 0.003


MOVES: tuple[Callable[[Path], None], ...] = (
    Path.offer,
    Path.offer,
    Path.offer_more,
    Path.rest,
    Path.connect,
)
