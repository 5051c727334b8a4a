"""The packets on their way, and which of them were lost (RACK, RFC 8985).

A packet is lost if another one that left `reordering` seconds later has been acknowledged, or if one
that left later has been, and it is overdue itself. There is no count of duplicates and no timeout that
doubles.

What was given up is remembered for a while. If such a packet is acknowledged after all, it was only
late, and the path reorders: the tolerance grows.
"""

from __future__ import annotations

import math
from collections import OrderedDict

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


class Flight:
    """Packets in the order in which they left. `bytes` counts those neither acknowledged nor lost."""

    def __init__(self) -> None:
        self.bytes = 0
        self.next_number = 1
        self.newest = Sent(0, 0.0, 0, None)  # of the acknowledged packets, the one that left last
        # In the order of their numbers. Unlike a dict, an OrderedDict finds its first key at once.
        self._packets: OrderedDict[int, Sent] = OrderedDict()
        self._given_up: OrderedDict[int, tuple[float, float]] = OrderedDict()  # departure, when given up
        self._known = Ranges()  # acknowledged numbers from the floor on
        self._tolerance = 0.0  # seconds beyond the usual reordering
        self._tolerant_until = 0.0

    @property
    def oldest(self) -> Sent | None:
        """The packet that is in flight for longest."""
        return next(iter(self._packets.values()), None)

    @property
    def oldest_to_repeat(self) -> Sent | None:
        """The same of those that have contents which would go again."""
        return next((packet for packet in self._packets.values() if packet.contents), None)

    @property
    def floor(self) -> int:
        """The lowest number whose acknowledgement would still tell something."""
        return next(iter(self._given_up or self._packets), self.next_number)

    def add(self, packet: Sent) -> None:
        """A packet leaves. Its number is `next_number`."""
        self._packets[packet.number] = packet
        self.next_number += 1
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
        packets, given_up, floor = self._packets, self._given_up, self.floor
        newest = packets.get(largest)
        acked: list[Sent] = []
        high = largest + 1
        for run, gap in ack.runs:
            low = max(high - run, floor)
            for start, end in self._known.add(low, high) if low < high else ():
                for number in range(start, end):
                    if (packet := packets.pop(number, None)) is not None:
                        acked.append(packet)
                    elif number in given_up:
                        self._came_late(given_up.pop(number)[0], now)
            if acked and acked[-1].number > self.newest.number:
                self.newest = acked[-1]
            high -= run + gap
        self.bytes -= sum([packet.size for packet in acked])
        return acked, newest

    def find_lost(self, now: float, trip: RoundTrip) -> list[Sent]:
        """Remove and return the packets that are lost by now."""
        lost: list[Sent] = []
        reordering = self.reordering(trip, now)
        # What left before this is lost, since a later one came; what left before the other one is overdue.
        passed = self.newest.sent_at - reordering
        overdue = now - max(trip.latest, trip.smoothed) - reordering
        while (packet := self.oldest) is not None and packet.number < self.newest.number:
            if packet.sent_at > passed and packet.sent_at > overdue:
                break
            lost.append(self._give_up(packet, now))
        self._forget(now, trip)
        return lost

    def lose_before(self, number: int, now: float) -> list[Sent]:
        """Remove and return all packets below a number: the link that carried them is gone."""
        lost: list[Sent] = []
        while (packet := self.oldest) is not None and packet.number < number:
            lost.append(self._give_up(packet, now))
        return lost

    def withdraw(self, number: int) -> Sent | None:
        """Remove and return a packet, of which nothing will be heard; None if it is not in flight."""
        if (packet := self._packets.pop(number, None)) is not None:
            self.bytes -= packet.size
            self._known.add(number, number + 1)  # a gap would cost memory
        return packet

    def overdue_at(self, trip: RoundTrip, now: float) -> float:
        """When `find_lost` has to be called again if no acknowledgement comes; inf if never."""
        packet = self.oldest
        if packet is None or packet.number >= self.newest.number:
            return math.inf
        return packet.sent_at + max(trip.latest, trip.smoothed) + self.reordering(trip, now)

    def reordering(self, trip: RoundTrip, now: float) -> float:
        """How many seconds later than its successors a packet may come without being lost."""
        usual = max(trip.least / _REORDERING_SHARE, _REORDERING_LEAST)
        return max(usual, min(self._tolerance, trip.smoothed)) if now < self._tolerant_until else usual

    def _give_up(self, packet: Sent, now: float) -> Sent:
        del self._packets[packet.number]
        self.bytes -= packet.size
        self._given_up[packet.number] = packet.sent_at, now
        return packet

    def _came_late(self, sent_at: float, now: float) -> None:
        if now >= self._tolerant_until:
            self._tolerance = 0.0
        self._tolerance = max(self._tolerance, 1.25 * (self.newest.sent_at - sent_at))
        self._tolerant_until = now + _TOLERANT

    def _forget(self, now: float, trip: RoundTrip) -> None:
        """Forget what was given up long ago, and acknowledgements below the floor."""
        given_up = self._given_up
        before = now - min(_REMEMBERED, _REMEMBERED_TRIPS * trip.smoothed)
        while given_up:
            number, (_, when) = next(iter(given_up.items()))
            if when >= before and len(given_up) <= _MOST_REMEMBERED:
                break
            del given_up[number]
        self._known.drop_below(self.floor)
