"""Cleans HTTP's chunked coding, as servers really send it, for h11. For responses only.

h11 refuses white space before a chunk extension, though a recipient must accept it (RFC 9112, section
7.1.1 and RFC 9110, section 5.6.3). It also refuses a trailer with a mistake in any line.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from toxproxy.http.response_head import clean_trailer

MAX_LINE_BYTES = 4096  # a chunk's size with its extensions
MAX_TRAILER_BYTES = 65536

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,20})[ \t]*(?:;[^\x00\r\n]*)?")
_TRAILER_END = re.compile(rb"\A\r?\n|\n\r?\n")


class Stage(Enum):
    """What comes next."""

    SIZE = auto()
    DATA = auto()
    TRAILER = auto()
    AS_IT_IS = auto()  # the body is over, or it has a mistake that h11 shall find


class ChunkFilter:
    """Cleans one chunked body: drops chunk extensions and mends the trailer.

    Sizes and data are never changed. From the first mistake on, everything goes out unchanged, and h11
    refuses it. At most one unfinished line, or the trailer, is kept (`MAX_LINE_BYTES`,
    `MAX_TRAILER_BYTES`).
    """

    def __init__(self) -> None:
        self._stage = Stage.SIZE
        self._left = 0  # bytes left of the chunk and of the line end behind it
        self._kept = bytearray()
        self._searched = 0  # bytes of `_kept` that do not hold the trailer's end

    @property
    def kept(self) -> bytes:
        """The bytes that went in and have not come out."""
        return bytes(self._kept)

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they arrived and return the cleaned ones, often fewer. Never raises."""
        self._kept += data
        out = bytearray()
        while self._kept and (some := self._next()) is not None:
            out += some
        return bytes(out)

    def _next(self) -> bytes | None:
        """The next piece, None if more bytes have to arrive first."""
        if self._stage is Stage.SIZE:
            return self._size()
        if self._stage is Stage.TRAILER:
            return self._trailer()
        if self._stage is Stage.AS_IT_IS:
            return self._take(len(self._kept))
        data = self._take(self._left)
        self._left -= len(data)
        if not self._left:
            self._stage = Stage.SIZE
        return data

    def _size(self) -> bytes | None:
        end = self._kept.find(b"\r\n", 0, MAX_LINE_BYTES)
        if end < 0 and len(self._kept) < MAX_LINE_BYTES:
            return None
        match = _SIZE_LINE.fullmatch(self._kept, 0, end) if end >= 0 else None
        if match is None:
            return self._give_up()
        digits = bytes(match[1])
        size = int(digits, 16)
        self._take(end + 2)
        self._left = size + 2
        self._stage = Stage.DATA if size else Stage.TRAILER
        return digits + b"\r\n"

    def _trailer(self) -> bytes | None:
        found = _TRAILER_END.search(self._kept, self._searched, MAX_TRAILER_BYTES)
        if found is None:
            self._searched = max(0, len(self._kept) - 2)
            return None if len(self._kept) < MAX_TRAILER_BYTES else self._give_up()
        self._stage = Stage.AS_IT_IS
        lines = self._take(found.end())
        return clean_trailer(lines) if found.start() else b"\r\n"

    def _give_up(self) -> bytes:
        self._stage = Stage.AS_IT_IS
        return self._take(len(self._kept))

    def _take(self, size: int) -> bytes:
        taken = bytes(self._kept[:size])
        del self._kept[:size]
        return taken
