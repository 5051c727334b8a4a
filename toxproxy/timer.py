"""A timer that can be set again, and stopped; and one for what is done seldom."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf


class Timer:
    """Calls `call` once when it is due. `due` is a time of the event loop's clock, inf if it is not set.

    It is kept here, since uvloop's timers do not always know it.
    """

    __slots__ = ("_call", "_handle", "due")

    def __init__(self, call: Callable[[], object]) -> None:
        self.due = inf
        self._call = call
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        """Whether it is set."""
        return self.due < inf

    def set(self, seconds: float) -> None:
        """Set it, or set it again: it is due in so many seconds."""
        self.set_at(asyncio.get_running_loop().time() + seconds)

    def set_at(self, due: float) -> None:
        """Set it, or set it again."""
        self.stop()
        self.due = due
        self._handle = asyncio.get_running_loop().call_at(due, self._ring)

    def stop(self) -> None:
        """It does not call, unless it is set again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.due = inf

    def _ring(self) -> None:
        self._handle = None
        self.due = inf
        self._call()


class Seldom:
    """Calls `call` `after` seconds after it was asked for, and at most once in `every` seconds."""

    __slots__ = ("_after", "_call", "_called_at", "_every", "_timer")

    def __init__(self, call: Callable[[], object], after: float, every: float) -> None:
        self._call = call
        self._after, self._every = after, every
        self._called_at = -inf
        self._timer = Timer(self._ring)

    def soon(self) -> None:
        """Ask for a call. Until then nothing changes by asking again."""
        if not self._timer.running:
            now = asyncio.get_running_loop().time()
            self._timer.set_at(max(now + self._after, self._called_at + self._every))

    def stop(self) -> bool:
        """It does not call. Returns whether it would have."""
        due = self._timer.running
        self._timer.stop()
        return due

    def _ring(self) -> None:
        self._called_at = asyncio.get_running_loop().time()
        self._call()
