"""Targets: one side's recovery with a hostile peer, and two with a hostile path between them.

Time is virtual. One side is held against a book: what became of each packet that left.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from fuzz import packets
from fuzz.budget import Budget
from fuzz.choices import Choices
from fuzz.packets import Packet
from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery.congestion import LEAST_WINDOW, MOST_WINDOW
from toxproxy.recovery.packet import ids
from toxproxy.recovery.recovery import Recovery
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE

_MOVES_MOST = 150
_GAPS = 150  # packets that come in a row
_BURST = 500  # packets that leave at once at most
_STEPS = (0.0, 0.001, 0.02, 1e-6, 0.1, 0.005, 0.5, 3.0, 60.0, 1e6)  # seconds
_SIZES = (100, 20, 1000, 1)  # bytes of frames
_PER_CALL, _PER_RUN, _PER_PACKET = 500, 40, 100  # lines of work
_MOST_RUNS, _MOST_GIVEN_UP = 1025, 4097  # that are remembered


def recovery(data: bytes) -> None:
    """A packet is handled or the peer's error, with bounded work and memory, and lies make nothing false."""
    Side(Choices(data)).play((*MOVES, *(4 * (Side.hear_anything,))))


def sender(data: bytes) -> None:
    """Whatever well-formed acknowledgements come: packets are accounted for, pace and timer make sense."""
    Side(Choices(data)).play(MOVES)


@dataclass(eq=False)
class Contents:
    """Of one packet."""

    delivered: bool = False
    lost: int = 0


class Book:
    """A source that notes what it is told."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self.waiting = 0  # packets' worth of frames
        self.size = 100

    @property
    def wants_to_send(self) -> bool:
        return self.waiting > 0

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> object | None:
        if not self.waiting:
            return None
        assert room >= 1000
        self.waiting -= 1
        pieces.append(bytes(min(self.size, room)))
        return Contents()

    def delivered(self, contents: object) -> None:
        assert isinstance(contents, Contents)
        assert not contents.delivered, "delivered twice"
        contents.delivered = True

    def lost(self, contents: object) -> None:
        assert isinstance(contents, Contents)
        assert not contents.delivered, "lost, though it was confirmed"
        contents.lost += 1
        self.waiting += 1

    def receive(self, packet: bytes, start: int) -> bool:
        assert 0 < start < len(packet)
        if packet[start] == 0xFF:
            raise RemoteProtocolError("a frame of the source's")
        return packet[start] != 0xFE


class Side:
    """A recovery with its book, its links, and a peer who says what the choices say."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.now = choices.pick((0.0, 1000.5, 1e9))
        self.book = Book(choices)
        self.recovery = Recovery(self.book, self.book.receive, self.now)
        self.budget = Budget("recovery")
        self.client = bool(choices.integer(1))
        self.up = self.flooded = False
        self.sent: dict[int, Contents | None] = {}  # what left and may be in flight; None in a bare probe
        self.held = 0.0  # until then nothing may leave but acknowledgements: the carrier's queue is full
        self.last = 0  # the largest number that left
        self.due = 1  # the peer's next number

    def play(self, moves: tuple[Callable[[Side], None], ...]) -> None:
        if self.client:
            self.recovery.introduction = ids(1, 0)
        self.link()
        made = 0
        try:
            while self.choices and made < _MOVES_MOST:
                self.choices.pick(moves)(self)
                self.check()
                made += 1
        except RemoteProtocolError:
            pass

    # What happens

    def link(self) -> None:
        """The link is lost, or there is another one."""
        if self.up:
            self.recovery.link_down(self.now)
        else:
            self.recovery.link_up(self.now)
            self.held = 0.0
        self.up = not self.up

    def relink(self) -> None:
        self.link()
        self.link()

    def wait(self) -> None:
        self.now += self.choices.pick(_STEPS)

    def wait_until_due(self) -> None:
        """The timer fires, on time or late."""
        due = self.recovery.due
        assert not math.isnan(due)
        if due < math.inf:
            self.now = max(self.now, due) + self.choices.pick((0.0, 0.001, 0.1))
        self.pump()

    def offer(self) -> None:
        self.book.size = self.choices.pick(_SIZES)
        self.book.waiting += self.choices.integer(60)
        self.pump()

    def flood(self) -> None:
        """Very much is in flight, as after a long time on a good path. Once: it takes time."""
        if self.flooded:
            return
        self.flooded = True
        self.recovery.controller._window = float(MOST_WINDOW)
        self.recovery.controller._pacer.tokens = float(MOST_WINDOW)
        self.book.waiting += self.choices.integer(_BURST)
        self.pump()

    def refuse(self) -> None:
        """The carrier does not take the last packets that left now."""
        count = self.choices.integer(20)
        self.book.waiting += self.choices.integer(3)
        left = self.pump()
        if count and left:
            self.recovery.refused(min(count, left), self.now)
            self.held = self.now + 0.0049
            self.pump()

    def hear(self) -> None:
        """A packet of an honest peer."""
        self.receive(self.their(bytes(self.choices.pick((30, 1000, 0)))).written())

    def hear_acknowledgement(self) -> None:
        there = self.their(bytes(self.choices.pick((0, 0, 30))))
        if self.last:
            clock = int(self.now * 1e6)
            packets.acknowledgement(self.choices, there, self.last, clock)
        self.receive(there.written())

    def hear_gaps(self) -> None:
        """Many packets come, and none between them."""
        if not self.up:
            return
        for _ in range(_GAPS):
            self.due += 2
            self.recovery.receive(Packet(self.due, frames=b"\0").written(), self.now)
        self.pump()

    def hear_anything(self) -> None:
        self.receive(packets.any_packet(self.choices, self.due, self.last))

    def their(self, frames: bytes) -> Packet:
        there = Packet(
            self.due, span=self.choices.pick((0, 3, 50)), probe=self.choices.integer(3) == 1, frames=frames
        )
        self.due += there.eliciting
        return there

    def receive(self, data: bytes) -> None:
        """One packet of the peer's arrives. Raises `RemoteProtocolError` where SPEC.md wants that."""
        if not self.up or not data:
            return
        there = packets.read(data, introductions=not self.client)
        if there is not None and there.largest is not None:
            there.largest = packets.nearest(there.largest, self.last + 1)
        wrong = there is None or (there.largest is not None and not 0 < there.largest <= self.last)
        wrong = wrong or (there is not None and there.frames[:1] == b"\xff")
        self.budget.grant(_PER_CALL + _PER_RUN * len(there.runs if there is not None else ()))
        try:
            with self.budget.spending():
                self.recovery.receive(data, self.now)
        except RemoteProtocolError:
            assert wrong, "a good packet was refused"
            raise
        if there is not None and there.largest is not None and there.largest <= self.last:
            self.settle(there)
        assert not wrong or (there is not None and there.frames[:1] == b"\xff"), "a bad packet was taken"
        self.pump()

    def settle(self, there: Packet) -> None:
        """Just what was acknowledged was told to be delivered."""
        flight = self.recovery.flight._packets.keys()
        for number, contents in list(self.sent.items()):
            if there.covers(number):
                assert number not in flight, f"{number} was acknowledged and is in flight"
                assert contents is None or contents.delivered, f"{number} was acknowledged, nobody was told"
                del self.sent[number]
            else:
                assert contents is None or not contents.delivered, f"{number} was not acknowledged"

    def pump(self) -> int:
        """All leaves that may leave now. Returns how many packets did."""
        left, most = 0, self.book.waiting + 2 * len(self.recovery.flight._packets) + 10
        while (data := self.next_packet(counted=not left)) is not None:
            self.leaves(data)
            left += 1
            assert left <= most, "it does not end"
        self.rests()
        return left

    def next_packet(self, *, counted: bool = True) -> bytes | None:
        """`counted` says whether the work is counted, which takes time."""
        if not counted:
            return self.recovery.next_packet(self.now)
        self.budget.grant(_PER_CALL)
        with self.budget.spending():
            return self.recovery.next_packet(self.now)

    def leaves(self, data: bytes) -> None:
        """One packet was given to the link."""
        assert self.up, "there is no link"
        assert len(data) <= PACKET_SIZE
        said = packets.read(data, introductions=self.client)
        assert said is not None
        assert said.number == (self.last + 1) & 0xFF_FFFF
        assert said.eliciting or said.largest is not None, "a packet that says nothing"
        assert not said.frames or self.recovery.met or self.recovery._first == 1
        assert not said.eliciting or self.now >= self.held, "the carrier takes nothing now"
        if said.eliciting:
            self.budget.grant(_PER_PACKET)
            self.last += 1
            newest = next(reversed(self.recovery.flight._packets.values()))
            assert newest.number == self.last
            assert newest.size == len(data) + OVERHEAD
            assert newest.contents is None or isinstance(newest.contents, Contents)
            self.sent[self.last] = newest.contents
            oldest = self.recovery.flight.oldest
            assert oldest is not None
            floor = self.last - said.span
            assert said.largest is None or said.span == 0xFFFF or floor <= oldest.number, "a floor too high"

    def rests(self) -> None:
        """Nothing more leaves now, so the timer must be later; by a rounding error it may be now."""
        for _ in range(3):
            due = self.recovery.due
            assert not math.isnan(due)
            if due > self.now:
                return
            self.now = max(math.nextafter(self.now, math.inf), self.now + 1e-6)
            data = self.next_packet()
            if data is not None:
                self.leaves(data)
                self.pump()
                return
        raise AssertionError("the timer is due, and nothing is to be done")

    # What must hold

    def check(self) -> None:
        flight, controller, trip = self.recovery.flight, self.recovery.controller, self.recovery.trip
        there = flight._packets
        assert list(there) == sorted(there)
        assert flight.bytes == sum(packet.size for packet in there.values())
        assert there.keys() <= self.sent.keys()
        for number in self.sent.keys() - there.keys():
            contents = self.sent.pop(number)
            assert contents is None or contents.lost, f"{number} is forgotten"
        assert len(flight._known) <= len(flight._packets) + len(flight._given_up) + 1
        assert len(flight._packets) <= flight.next_number - flight.floor
        assert len(flight._given_up) <= max(_MOST_GIVEN_UP, self.last)
        assert len(self.recovery.received._numbers) <= _MOST_RUNS
        assert LEAST_WINDOW <= controller.window <= MOST_WINDOW
        pacer = controller._pacer
        numbers = (pacer._rate, pacer._burst, trip.latest, trip.smoothed, trip.variation, trip.least)
        assert all(
            0 < number < math.inf for number in (*numbers, trip.patience, flight.reordering(trip, self.now))
        )
        assert math.isfinite(pacer.tokens)
        assert 0 <= controller.bandwidth < math.inf
        assert 0 <= controller._delays.base < math.inf


MOVES: tuple[Callable[[Side], None], ...] = (
    Side.offer,
    Side.offer,
    Side.wait,
    Side.wait,
    Side.wait_until_due,
    Side.wait_until_due,
    Side.hear,
    Side.hear_gaps,
    Side.hear_acknowledgement,
    Side.hear_acknowledgement,
    Side.hear_acknowledgement,
    Side.hear_acknowledgement,
    Side.flood,
    Side.refuse,
    Side.link,
    Side.relink,
)
