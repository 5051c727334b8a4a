"""Decisions read from bytes: whoever mutates the bytes mutates the decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Reads a target's bytes from front to back; after their end every decision is the first one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether bytes are left."""
        return self._at < len(self._data)

    def integer(self, most: int) -> int:
        """A number from 0 to `most`, from as many bytes as that takes."""
        size = (most.bit_length() + 7) // 8
        return int.from_bytes(self._take(size)) % (most + 1)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, at least one."""
        return options[self.integer(len(options) - 1)]

    def chunk(self, most: int) -> bytes:
        """Some bytes, at most `most`, with their number in front."""
        return self._take(self.integer(most))

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self._take(len(self._data) - self._at)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        self._at += len(taken)
        return taken
