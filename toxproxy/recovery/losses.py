"""How much a path loses by chance, and whether it loses more than that now.

Random loss is always there. A policer or a full queue loses only what is sent too fast, and its owner
slows down for a round now and then. So the least loss of the recent past is taken for chance, and what
clearly exceeds it for congestion.
"""

from __future__ import annotations

from collections import deque
from math import sqrt

_WINDOW, _WINDOWS, _ENOUGH = 200, 16, 4  # packets of a measurement; measurements that count, and that suffice
_MOST = 0.06  # no more than this is taken for chance
_MARGIN, _DEVIATIONS = 0.03, 2.0  # above chance, and standard deviations of chance
_LEAST_CHANCE = 0.01  # for the deviation: before anything is lost, chance is not zero
_LEAST_LOST = 2  # packets


class Losses:
    """Shares of packets lost."""

    def __init__(self) -> None:
        self.chance = 0.0
        self._acked = self._lost = 0
        self._shares: deque[float] = deque(maxlen=_WINDOWS)

    def note(self, acked: int, lost: int) -> bool:
        """So many packets were acknowledged and lost in a round. Returns whether that exceeds chance."""
        self._acked += acked
        self._lost += lost
        packets = self._acked + self._lost
        if packets >= _WINDOW:
            self._shares.append(self._lost / packets)
            self._acked = self._lost = 0
            if len(self._shares) >= _ENOUGH:
                self.chance = min(min(self._shares), _MOST)
        if lost < _LEAST_LOST:
            return False
        packets = acked + lost
        chance = max(self.chance, _LEAST_CHANCE)
        deviation = sqrt(chance * (1 - chance) / packets)
        return lost / packets > self.chance + _MARGIN + _DEVIATIONS * deviation
