"""A piece of one direction of a stream that was sent and may have to be sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toxproxy.mux.stream import Stream


class Segment:
    """Bytes of a stream from offset `start`, or a whole PACKED or FIN frame, until they are acknowledged.

    A packet's contents name its segments. More than one packet may carry the same segment: the first that
    arrives is enough. `data` is None once they are acknowledged, or were split: then `parts` have them.
    """

    __slots__ = ("data", "parts", "queued", "start", "stream", "whole")

    def __init__(self, stream: Stream, start: int, data: bytes, whole: bool = False) -> None:
        self.stream = stream
        self.start = start
        self.data: bytes | None = data
        self.whole = whole  # `data` is a frame, not to be split
        self.queued = False  # it waits to be sent again
        self.parts: tuple[Segment, ...] = ()

    def split(self, size: int) -> tuple[Segment, Segment]:
        """Replace this segment of DATA by two; the first has `size` bytes."""
        assert self.data is not None
        first = Segment(self.stream, self.start, self.data[:size])
        second = Segment(self.stream, self.start + size, self.data[size:])
        self.parts = first, second
        self.data = None
        return first, second
