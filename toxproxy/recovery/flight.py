"""The packets on their way, and which of them were lost (RACK, RFC 8985).

A packet is lost if another one that left `reordering` seconds later has been acknowledged, or if one
that left later has been, and it is overdue itself. There is no count of duplicates and no timeout that
doubles.

What was given up is remembered for a while. If such a packet is acknowledged after all, it was only
late, and the path reorders: the tolerance grows.
"""

from __future__ import annotations

import math
from collections import deque

from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery.packet import Acknowledgement, expanded
from toxproxy.recovery.ranges import Ranges
from toxproxy.recovery.roundtrip import RoundTrip
from toxproxy.recovery.sent import Sent

_REORDERING_SHARE = 8  # of the least round trip
_REORDERING_LEAST = 0.004  # seconds
_REMEMBERED = 2.0  # seconds that a packet is remembered after it was given up, or …
_REMEMBERED_TRIPS = 2  # … so many round trips, if that is less
_MOST_REMEMBERED = 4096
_TOLERANT = 10.0  # seconds that the tolerance lasts after a packet was late
_COMPACT = 1024  # resolved packets in front of the list, before it is cut


class Flight:
    """Packets in the order in which they left. `bytes` counts those neither acknowledged nor lost."""

    def __init__(self) -> None:
        self.bytes = 0
        self.next_number = 1
        self.count = 0  # packets in flight
        self.late = 0  # packets that were given up and came after all
        self._packets: list[Sent | None] = []  # by number, from `_base` on; None where resolved
        self._base = 1
        self._head = 0  # everything before this index is resolved
        self._known = Ranges()  # acknowledged numbers
        self._newest = 0.0  # when the packet left that was acknowledged and left last
        self._newest_number = 0
        self._given_up: deque[tuple[int, float, float]] = deque()  # number, departure, when given up
        self._given_up_numbers: dict[int, float] = {}  # the same: number to departure
        self._tolerance = 0.0  # seconds beyond the usual reordering
        self._tolerant_until = 0.0

    @property
    def oldest(self) -> Sent | None:
        """The packet that is in flight for longest."""
        packets, head = self._packets, self._head
        size = len(packets)
        while head < size and packets[head] is None:
            head += 1
        self._head = head
        if head >= _COMPACT and 2 * head >= size:
            del packets[:head]
            self._base += head
            self._head = head = 0
        return packets[head] if head < len(packets) else None

    @property
    def floor(self) -> int:
        """The lowest number whose acknowledgement would still tell something."""
        lowest = self._base + self._head
        return min(lowest, self._given_up[0][0]) if self._given_up else lowest

    def add(self, packet: Sent) -> None:
        """A packet leaves. Its number is `next_number`."""
        self._packets.append(packet)
        self.next_number += 1
        self.count += 1
        self.bytes += packet.size

    def acknowledge(self, ack: Acknowledgement, now: float) -> tuple[list[Sent], Sent | None]:
        """The packets that an acknowledgement confirms for the first time, and the largest if it is one.

        Raises `RemoteProtocolError` for a number that was never sent. Takes time for what is new only.
        """
        largest = expanded(ack.largest, self.next_number)
        if not 0 < largest < self.next_number:
            raise RemoteProtocolError(
                f"acknowledgement of packet {largest}, the last one was {self.next_number - 1}"
            )
        packets, base, floor = self._packets, self._base, self.floor
        acked: list[Sent] = []
        newest = self._at(largest)
        high = largest + 1
        for run, gap in ack.runs:
            if high <= floor:
                break
            low = max(high - run, floor)
            for start, end in self._known.add(low, high) if run else ():
                for index in range(start - base, end - base):
                    packet = packets[index] if index >= 0 else None
                    if packet is not None:
                        packets[index] = None
                        acked.append(packet)
                        self.bytes -= packet.size
                    elif self._given_up_numbers:
                        self._came_late(index + base, now)
            high -= run + gap
        self.count -= len(acked)
        for packet in acked:
            if packet.sent_at > self._newest:
                self._newest = packet.sent_at
            if packet.number > self._newest_number:
                self._newest_number = packet.number
        return acked, newest

    def find_lost(self, now: float, trip: RoundTrip) -> list[Sent]:
        """Remove and return the packets that are lost by now."""
        lost: list[Sent] = []
        reordering = self.reordering(trip, now)
        # What left before this is lost, since a later one came; what left before the other one is overdue.
        passed = self._newest - reordering
        overdue = now - max(trip.latest, trip.smoothed) - reordering
        while (packet := self.oldest) is not None and packet.number < self._newest_number:
            if packet.sent_at > passed and packet.sent_at > overdue:
                break
            self._give_up(packet, now)
            lost.append(packet)
        self._forget(now, trip)
        return lost

    def lose_before(self, number: int, now: float) -> list[Sent]:
        """Remove and return all packets below a number: the link that carried them is gone."""
        lost: list[Sent] = []
        while (packet := self.oldest) is not None and packet.number < number:
            self._give_up(packet, now)
            lost.append(packet)
        return lost

    def withdraw(self, number: int) -> Sent | None:
        """Remove and return a packet that never left; None if it is not in flight."""
        packet = self._at(number)
        if packet is not None:
            self._packets[number - self._base] = None
            self.bytes -= packet.size
            self.count -= 1
        return packet

    def overdue_at(self, trip: RoundTrip, now: float) -> float:
        """When `find_lost` has to be called again if no acknowledgement comes; inf if never."""
        packet = self.oldest
        if packet is None or packet.number >= self._newest_number:
            return math.inf
        return packet.sent_at + max(trip.latest, trip.smoothed) + self.reordering(trip, now)

    def reordering(self, trip: RoundTrip, now: float) -> float:
        """How many seconds later than its successors a packet may come without being lost."""
        usual = max(trip.least / _REORDERING_SHARE, _REORDERING_LEAST)
        return max(usual, min(self._tolerance, trip.smoothed)) if now < self._tolerant_until else usual

    def _at(self, number: int) -> Sent | None:
        index = number - self._base
        return self._packets[index] if 0 <= index < len(self._packets) else None

    def _give_up(self, packet: Sent, now: float) -> None:
        self._packets[packet.number - self._base] = None
        self.bytes -= packet.size
        self.count -= 1
        self._given_up.append((packet.number, packet.sent_at, now))
        self._given_up_numbers[packet.number] = packet.sent_at

    def _came_late(self, number: int, now: float) -> None:
        sent_at = self._given_up_numbers.pop(number, None)
        if sent_at is None:
            return
        self.late += 1
        lateness = self._newest - sent_at
        if now >= self._tolerant_until:
            self._tolerance = 0.0
        self._tolerance = max(self._tolerance, 1.25 * lateness)
        self._tolerant_until = now + _TOLERANT

    def _forget(self, now: float, trip: RoundTrip) -> None:
        """Forget what was given up long ago, and acknowledgements below the floor."""
        given_up = self._given_up
        before = now - min(_REMEMBERED, _REMEMBERED_TRIPS * trip.smoothed)
        while given_up and (given_up[0][2] < before or len(given_up) > _MOST_REMEMBERED):
            self._given_up_numbers.pop(given_up.popleft()[0], None)
        self._known.drop_below(self.floor)
