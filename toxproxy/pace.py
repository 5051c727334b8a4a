"""Rate limits: for strangers' requests, for log lines that others cause, and for failed attempts."""

from __future__ import annotations

import logging
import random
import time
from collections import deque

MINUTE = 60.0  # seconds


class Pace:
    """Allows something at most `most` times in any minute; 0 means never."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken: deque[float] = deque()

    @property
    def left(self) -> bool:
        """Whether it is allowed now. It is not counted."""
        now = time.monotonic()
        while self._taken and now - self._taken[0] >= MINUTE:
            self._taken.popleft()
        return len(self._taken) < self._most

    def take(self) -> bool:
        """Whether it is allowed now; if so, it is counted."""
        if not self.left:
            return False
        self._taken.append(time.monotonic())
        return True


class TokenBucket:
    """Allows something `most` times at once, and `rate` times more in each second."""

    def __init__(self, most: int, rate: float) -> None:
        self._most = most
        self._rate = rate
        self._left = float(most)
        self._at = time.monotonic()

    def take(self) -> bool:
        """Whether it is allowed now; if so, it is counted."""
        now = time.monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Backoff:
    """Exponential back-off: the pauses between attempts that fail.

    After the first failure there is no pause. Then pauses double from `first` to `most` seconds. Each is
    shortened by up to a half at random, so that many who failed together do not try again together.
    """

    def __init__(self, first: float = 1.0, most: float = 30.0) -> None:
        self._first = self._next = first
        self._most = most
        self._failed = False

    def pause(self) -> float:
        """An attempt failed; returns the seconds until the next one."""
        if not self._failed:
            self._failed = True
            return 0.0
        pause, self._next = self._next, min(2 * self._next, self._most)
        return pause * random.uniform(0.5, 1.0)

    def restart(self) -> None:
        """An attempt succeeded."""
        self._failed = False
        self._next = self._first


class Notice:
    """A log line that others can cause as often as they like.

    At most `most` are written in any minute. The next line says how many were left out.
    """

    def __init__(self, log: logging.Logger, level: int = logging.INFO, *, most: int = 1) -> None:
        self._log = log
        self._level = level
        self._pace = Pace(most)
        self._untold = 0

    def __call__(self, text: str, *arguments: object, exc_info: bool = False) -> None:
        """Write the line, or count it for the next one. `exc_info` adds the exception being handled."""
        if not self._pace.take():
            self._untold += 1
            return
        untold, self._untold = self._untold, 0
        if untold:
            text += " (and %d more of these before)"
            arguments += (untold,)
        self._log.log(self._level, text, *arguments, exc_info=exc_info)
