"""The receiving direction of a stream: it puts the bytes in order, until the application reads them.

Credit is given for bytes that the application has consumed, not for bytes that arrived. So a reader that
stops holds one window of memory, and stops its own writer only. (As in QUIC, RFC 9000 section 4.1.)
"""

from __future__ import annotations

from heapq import heappop, heappush

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Decompressor
from toxproxy.mux.limits import Allotment

_OVERHEAD = 128  # bytes of memory for each piece that is held, beside its contents


class Receiver:
    """Bytes from the peer, in any order, until they are contiguous and read.

    The peer may send up to `limit`, which never falls. It should be `size` bytes, the window, ahead of
    `consumed`. A sender that has more to send fills its credit to the last byte. So bytes that end exactly at
    a limit show that the window may be too small for the path: it was `used_up`.

    With `compress`, the peer may send PACKED frames; they are unpacked when their turn comes.

    What is ahead of a gap is held. With `_OVERHEAD` bytes for each piece that may take twice the window; a
    piece beyond that is not stored. The window is counted in `memory`.
    """

    def __init__(self, size: int, memory: Allotment, *, compress: bool = False) -> None:
        self.limit = self.size = 0
        self.received = 0  # bytes that came in order; the end counts as one
        self.consumed = 0  # of these, what the application has read
        self._given: set[int] = set()  # the newest limits since the window has this size
        self.ignored = False  # the application reads no more
        self.ready = bytearray()  # contiguous bytes that the application has not read, …
        self.told = False  # … and whether it was told of them
        self.fin_at = -1  # the offset of FIN, once it came
        self._ahead: list[tuple[int, int, bytes, bool]] = []  # a heap: start, end, bytes or block, packed
        self._held = 0  # bytes of memory that these take
        self._decompressor = Decompressor() if compress else None
        self._memory = memory
        self.resize(size)
        self.grant()

    @property
    def finished(self) -> bool:
        """Whether everything up to FIN came."""
        return 0 <= self.fin_at < self.received

    @property
    def done(self) -> bool:
        """Whether the application knows of the end."""
        return 0 <= self.fin_at < self.consumed

    @property
    def carried(self) -> int:
        """How many bytes came in order."""
        return self.received - self.finished

    @property
    def due(self) -> bool:
        """Whether a CREDIT is due: the last one for the end, others for a quarter of the window."""
        if self.finished:
            return self.done
        return 4 * (self.consumed + self.size - self.limit) >= self.size

    @property
    def is_kept_up_with(self) -> bool:
        """Whether at most a quarter of the window waits for the application."""
        return 4 * (self.received - self.consumed) <= self.size

    def resize(self, size: int) -> None:
        """Set the window's size. What the peer did with the former one does not count any more."""
        self._memory.hold(size - self.size)
        self.size = size
        self._given.clear()
        self.used_up = False

    def grant(self) -> int:
        """Raise the limit to `size` ahead of `consumed`, and return it."""
        self.limit = max(self.limit, self.consumed + self.size)
        self._given = {*sorted(self._given)[-7:], self.limit}
        return self.limit

    def take(self, start: int, end: int, data: bytes, packed: bool = False) -> bool:
        """DATA or PACKED came. False if it cannot be stored now.

        Raises `RemoteProtocolError` for bytes beyond the limit or FIN, for PACKED where the stream takes
        none, and for a bad block when its turn comes.
        """
        if end > self.limit:
            raise RemoteProtocolError(f"stream data up to {end}, credit was {self.limit}")
        if 0 <= self.fin_at < end:
            raise RemoteProtocolError(f"stream data up to {end}, after FIN at {self.fin_at}")
        if packed and self._decompressor is None:
            raise RemoteProtocolError("PACKED frame for a stream that takes none")
        if end <= self.received:
            return True
        if end in self._given:
            self.used_up = True
        if start > self.received:
            cost = len(data) + _OVERHEAD
            if self._held + cost > 2 * self.size:
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
        highest = max([self.received, *(end for _, end, _, _ in self._ahead)])
        if not highest <= offset <= self.limit:
            known = f"data came up to {highest} and credit was {self.limit}"
            raise RemoteProtocolError(f"FIN at offset {offset}, {known}")
        self.fin_at = offset
        self._advance()

    def read(self, most: int) -> bytes | None:
        """The next bytes, `most` at most; once empty, at the end; None while there is nothing."""
        if not self.ready and (self.done or not self.finished):
            self.told = False
            return None
        data = bytes(memoryview(self.ready)[:most])
        del self.ready[:most]
        self.consumed += len(data) or 1
        return data

    def discard(self) -> None:
        """All that came counts as read."""
        self.ready.clear()
        self.consumed = self.received

    def credit(self, stream: int) -> bytes:
        """A CREDIT frame with the current offset and a new limit."""
        return frames.encode(frames.Credit(stream, self.consumed, self.grant()))

    def drop(self) -> None:
        """Return the window's memory, and drop what is ahead of a gap: the stream has ended."""
        self._memory.hold(-self.size)
        self._ahead.clear()
        self._held = 0
        self._decompressor = None

    def _advance(self) -> None:
        """Put in order what has become contiguous."""
        ahead = self._ahead
        while ahead and ahead[0][0] <= self.received:
            start, end, data, packed = heappop(ahead)
            self._held -= len(data) + _OVERHEAD
            if end > self.received:
                self._put(start, end, data, packed)
        if self.received == self.fin_at:
            self.received += 1

    def _put(self, start: int, end: int, data: bytes, packed: bool) -> None:
        """Append bytes that begin at or before the next offset and end after it."""
        known = self.received - start
        self.received = end
        if not self.ignored:
            if packed:
                assert self._decompressor is not None
                data = self._decompressor.unpack(data, end - start)
            self.ready += data[known:] if known else data
