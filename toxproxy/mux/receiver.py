"""The receiving direction of a stream: it puts the bytes in order, until the application reads them."""

from __future__ import annotations

from heapq import heappop, heappush

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Decompressor
from toxproxy.mux.window import ReceiveWindow

_OVERHEAD = 128  # bytes of memory for each piece that is held, beside its contents


class Receiver:
    """Bytes from the peer, in any order, until they are contiguous and read.

    With `compress`, the peer may send PACKED frames; they are unpacked when their turn comes.

    What is ahead of a gap is held. With `_OVERHEAD` bytes for each piece that may take twice the window; a
    piece beyond that is not stored.
    """

    def __init__(self, limit: int, *, compress: bool = False) -> None:
        self.window = ReceiveWindow(limit)
        self.ignored = False  # the application reads no more
        self.ready = bytearray()  # contiguous bytes that the application has not read, …
        self.told = False  # … and whether it was told of them
        self.fin_at = -1  # the offset of FIN, once it came
        self._ahead: list[tuple[int, int, bytes, bool]] = []  # a heap: start, end, bytes or block, packed
        self._held = 0  # bytes of memory that these take
        self._decompressor = Decompressor() if compress else None

    @property
    def finished(self) -> bool:
        """Whether everything up to FIN came."""
        return 0 <= self.fin_at < self.window.received

    @property
    def done(self) -> bool:
        """Whether the application knows of the end."""
        return 0 <= self.fin_at < self.window.consumed

    @property
    def carried(self) -> int:
        """How many bytes came in order; the window counts the end as one more."""
        return self.window.received - self.finished

    @property
    def due(self) -> bool:
        """Whether a CREDIT is due: the last one for the end, the others for a part of the window."""
        return self.done if self.finished else self.window.due

    def take(self, start: int, end: int, data: bytes, packed: bool = False) -> bool:
        """DATA or PACKED came. False if it cannot be stored now.

        Raises `RemoteProtocolError` for bytes beyond the limit or FIN, for PACKED where the stream takes
        none, and for a bad block when its turn comes.
        """
        window = self.window
        if end > window.limit:
            raise RemoteProtocolError(f"stream data up to {end}, credit was {window.limit}")
        if 0 <= self.fin_at < end:
            raise RemoteProtocolError(f"stream data up to {end}, after FIN at {self.fin_at}")
        if packed and self._decompressor is None:
            raise RemoteProtocolError("PACKED frame for a stream that takes none")
        if end <= window.received:
            return True
        if end in window.given:
            window.used_up = True
        if start > window.received:
            cost = len(data) + _OVERHEAD
            if self._held + cost > 2 * window.size:
                return False
            heappush(self._ahead, (start, end, data, packed))
            self._held += cost
            return True
        self._put(start, end, data, packed)
        if self._ahead or self.fin_at >= 0:
            self._advance()
        return True

    def fin(self, offset: int) -> None:
        """FIN came. Raises `RemoteProtocolError` for another one than before, or before the last byte."""
        if self.fin_at >= 0:
            if offset != self.fin_at:
                raise RemoteProtocolError(f"FIN at offset {offset}, another was at {self.fin_at}")
            return
        last = max((end for _, end, _, _ in self._ahead), default=0)
        highest = max(last, self.window.received)
        if not highest <= offset <= self.window.limit:
            known = f"data came up to {highest} and credit was {self.window.limit}"
            raise RemoteProtocolError(f"FIN at offset {offset}, {known}")
        self.fin_at = offset
        self._advance()

    def read(self, most: int) -> bytes | None:
        """The next bytes, `most` at most; once empty, at the end; None while there is nothing."""
        data = None
        if self.ready:
            data = bytes(memoryview(self.ready)[:most])
            del self.ready[:most]
        elif self.finished and not self.done:
            data = b""
        if data is None:
            self.told = False
        else:
            self.window.consumed += len(data) or 1
        return data

    def discard(self) -> None:
        """All that came counts as read."""
        self.ready.clear()
        self.window.consumed = self.window.received

    def credit(self, stream: int) -> bytes:
        """A CREDIT frame with the current offset and a new limit."""
        return frames.encode(frames.Credit(stream, self.window.consumed, self.window.grant()))

    def drop(self) -> None:
        """Drop what is ahead of a gap: the stream has ended."""
        self._ahead.clear()
        self._held = 0
        self._decompressor = None

    def _advance(self) -> None:
        """Put in order what has become contiguous."""
        window, ahead = self.window, self._ahead
        while ahead and ahead[0][0] <= window.received:
            start, end, data, packed = heappop(ahead)
            self._held -= len(data) + _OVERHEAD
            if end > window.received:
                self._put(start, end, data, packed)
        if window.received == self.fin_at:
            window.received += 1

    def _put(self, start: int, end: int, data: bytes, packed: bool) -> None:
        """Append bytes that begin at or before the next offset and end after it."""
        known = self.window.received - start
        self.window.received = end
        if not self.ignored:
            if packed:
                assert self._decompressor is not None
                data = self._decompressor.unpack(data, end - start)
            self.ready += data[known:] if known else data
