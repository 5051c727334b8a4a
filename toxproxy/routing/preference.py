"""Which of several exits is used, in order of preference. Time goes in as an argument, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

STEADY = 30.0  # seconds that a better exit must have been there until it is used again


class Standing(Enum):
    """What is known of an exit."""

    THERE = "there"
    SILENT = "silent"  # there is a session, and nothing is heard
    GONE = "gone"  # there is no session


class Preference:
    """Chooses among `count` exits; 0 is the one that is preferred.

    The first that is there is used until it is not. Then it is the next one's turn, and the first is used
    again once it has been there for `STEADY` seconds. Call `note` when something may have changed.
    """

    def __init__(self, count: int) -> None:
        self._since: list[float | None] = [None] * count  # since when each is there
        self._current: int | None = None

    def note(self, now: float, standings: Sequence[Standing]) -> None:
        """Remember since when each is there."""
        for index, standing in enumerate(standings):
            if standing is not Standing.THERE:
                self._since[index] = None
            elif self._since[index] is None:
                self._since[index] = now

    def choose(self, now: float, standings: Sequence[Standing]) -> int | None:
        """The exit for a new connection: if none is there, a silent one; None where all are gone."""
        self.note(now, standings)
        there = [index for index, standing in enumerate(standings) if standing is Standing.THERE]
        if not there:
            return next((i for i, standing in enumerate(standings) if standing is Standing.SILENT), None)
        if self._current not in there:
            self._current = there[0]
        else:
            steady = (each for each in there if now - (self._since[each] or now) >= STEADY)
            self._current = min(self._current, next(steady, self._current))
        return self._current
