"""Decisions read from bytes, so that a fuzzer that mutates the bytes mutates the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads the input from front to back. After its end every decision is the first option, 0 or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """True while bytes are left."""
        return self._at < len(self._data)

    def integer(self, most: int) -> int:
        """A number from 0 to `most`, read from as few bytes as can hold `most`."""
        size = (most.bit_length() + 7) // 8
        return int.from_bytes(self._take(size)) % (most + 1)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options. There must be at least one."""
        return options[self.integer(len(options) - 1)]

    def chunk(self, most: int) -> bytes:
        """At most `most` bytes. Their number is read first."""
        return self._take(self.integer(most))

    def rest(self) -> bytes:
        """All remaining bytes."""
        return self._take(len(self._data) - self._at)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken
