"""The packets that came from the peer: which ones, and when to acknowledge them.

An acknowledgement rides with data where there is some. Alone it goes after `_MANY` packets or a short
delay, and at once where packets came out of order or the peer asks for it.
"""

from __future__ import annotations

import math

from toxproxy.recovery import packet
from toxproxy.recovery.ranges import Ranges

_MANY = 16  # packets after which an acknowledgement does not wait
_MOST_DELAY, _LEAST_DELAY = 0.005, 0.001  # seconds that one may wait …
_SHARE = 8  # … and between these, so many of them in a round trip
_MOST_RUNS = 32  # that are reported; older ones were reported before
_MOST_KEPT = 1024  # runs that are remembered


class Received:
    """Tells new packets from repeated ones, and writes acknowledgements.

    Numbers below the floor count as received. The peer's acknowledgements raise the floor: it does not wait
    for an acknowledgement of lower numbers any more. Where more than `_MOST_KEPT` runs would have to be
    remembered, the oldest gaps are given up, and packets that would fill them are dropped.
    """

    def __init__(self) -> None:
        self.largest = 0  # the largest number that came; 0 if none has
        self.count = 0  # different numbers that came
        self.pending = 0  # packets that were not acknowledged yet
        self.due = math.inf  # when they must be
        self._came_at = 0.0  # when the largest came
        self._numbers = Ranges()
        self._floor = 1

    def is_new(self, number: int) -> bool:
        """Whether a packet with this number has not come before."""
        return number >= self._floor and (number > self.largest or number not in self._numbers)

    def raise_floor(self, floor: int) -> None:
        """The peer does not want to hear about numbers below `floor`."""
        if floor > self._floor:
            self._floor = floor
            self._numbers.drop_below(min(floor, self.largest))  # the largest stays, for the next one

    def add(self, number: int, now: float, round_trip: float, *, urgent: bool) -> None:
        """A new packet came. `round_trip` is an estimate in seconds."""
        in_order = number == self.largest + 1
        self._numbers.add(number, number + 1)
        self.count += 1
        if number > self.largest:
            self.largest = number
            self._came_at = now
        self.pending += 1
        if urgent or not in_order or self.pending >= _MANY:
            self.due = now
            if len(self._numbers) > _MOST_KEPT:
                self._floor = max(self._floor, self._numbers.drop_first())
        elif self.pending == 1:
            self.due = now + min(_MOST_DELAY, max(_LEAST_DELAY, round_trip / _SHARE))

    def acknowledgement(self, span: int, now: float) -> bytes:
        """Write an acknowledgement of what came; see `packet.acknowledgement`. Nothing is pending then."""
        self.pending = 0
        self.due = math.inf
        return packet.acknowledgement(span, self._came_at, now, self._numbers, _MOST_RUNS)

    def repeat(self, due: float) -> None:
        """The last acknowledgement did not leave: one is due again, at `due`."""
        if self.largest:
            self.pending = max(self.pending, 1)
            self.due = min(self.due, due)
