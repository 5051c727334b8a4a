"""How much work a call may do, in lines of Python: that is the same on every machine, unlike time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import toxproxy

_TOXPROXY = Path(toxproxy.__file__).parent


class Budget:
    """Counts the lines that a room of toxproxy executes, and holds them against what was granted.

    Nothing is counted where another tracer is at work, as for coverage.
    """

    def __init__(self, room: str) -> None:
        self._room = str(_TOXPROXY / room)
        self._spent = self._granted = 0

    def grant(self, lines: int) -> None:
        self._granted += lines

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Raises `AssertionError` if more was spent than was ever granted."""
        if sys.gettrace() is not None:
            yield
            return
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(None)
        assert self._spent <= self._granted, f"{self._spent} lines of work, {self._granted} were granted"

    def _enter(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        return self._count if frame.f_code.co_filename.startswith(self._room) else None

    def _count(self, frame: FrameType, event: str, _: object) -> Callable[..., Any]:
        self._spent += 1
        if self._spent > 10 * self._granted + 1_000_000:
            raise AssertionError("work without end")
        return self._count
