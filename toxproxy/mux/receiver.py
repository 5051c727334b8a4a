"""The receiving direction of a stream: it puts the bytes in order.

OPEN -> FINISHED -> DONE      everything up to FIN came, FIN consumed
"""

from __future__ import annotations

from enum import Enum
from heapq import heappop, heappush

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Decompressor
from toxproxy.mux.window import ReceiveWindow

_OVERHEAD = 128  # bytes of memory for each segment that is held, beside its contents


class ReceiveState(Enum):
    OPEN = "open"
    FINISHED = "finished"
    DONE = "done"


class Receiver:
    """Bytes from the peer, in any order, until they are contiguous.

    It is finished when FIN and all bytes before it came, and done when the application knows that. With
    `compress`, the peer may send PACKED frames; they are unpacked when their turn comes.

    What is ahead of a gap is held. Its bytes are bounded by the credit. With `_OVERHEAD` bytes for each
    segment it may take twice the window; a segment beyond that is not stored, unless it continues the
    stream in order.

    `direct` is for the multiplexer: nothing is held, no FIN came, and the bytes are for the application.
    """

    __slots__ = (
        "_decompressor", "_ended", "_fresh", "_held", "_highest", "_segments", "_starts",
        "blocked", "direct", "fin_at", "ignored", "pieces", "state", "waiting", "window",
    )  # fmt: skip

    def __init__(self, limit: int, *, compress: bool = False, waiting: bool = False) -> None:
        self.state = ReceiveState.OPEN
        self.window = ReceiveWindow(limit)
        self.ignored = False  # the application reads no more
        self.waiting = waiting  # for OPEN: until then everything is held
        self.direct = False
        self.pieces: list[bytes] | None = None  # of the `DataReceived` that the owner has not taken yet
        self.blocked = False  # the peer said BLOCKED while the application had not taken everything
        self.fin_at = -1  # the offset of FIN, once it came
        self._highest = 0  # the end of the last byte that came out of order
        self._segments: dict[int, tuple[int, bytes, bool]] = {}  # start: end, bytes or block, whether packed
        self._starts: list[int] = []  # a heap
        self._held = 0  # bytes of memory of segments
        self._fresh: list[bytes] = []  # became contiguous, for `news`
        self._ended = False  # so did FIN
        self._decompressor = Decompressor() if compress else None

    def data(self, start: int, data: bytes) -> bool:
        """DATA came. False if it cannot be stored now.

        Raises `RemoteProtocolError` for bytes beyond the limit or beyond FIN.
        """
        return self._take(start, start + len(data), data, False)

    def packed(self, frame: frames.Packed) -> bool:
        """PACKED came. False if it cannot be stored now.

        Raises `RemoteProtocolError` as `data` does, and where the stream takes no PACKED frames. Also for a
        block that is not LZ4 or does not hold the declared number of bytes, when its turn comes, and for one
        that overlaps with other bytes.
        """
        if self._decompressor is None:
            raise RemoteProtocolError(f"PACKED frame for stream {frame.stream}, which takes none")
        return self._take(frame.offset, frame.offset + frame.length, frame.block, True)

    def fin(self, offset: int) -> None:
        """FIN came. Raises `RemoteProtocolError` for another one than before, or before the last byte."""
        if self.fin_at >= 0:
            if offset != self.fin_at:
                raise RemoteProtocolError(f"FIN at offset {offset}, another was at {self.fin_at}")
            return
        highest = max(self._highest, self.window.received)
        if not highest <= offset <= self.window.limit:
            raise RemoteProtocolError(
                f"FIN at offset {offset}, data came up to {highest} and credit was {self.window.limit}"
            )
        self.fin_at = offset
        self.direct = False
        self._advance()

    def release(self) -> None:
        """OPEN came: put in order what waited for it."""
        self.waiting = False
        self._advance()

    def news(self) -> tuple[list[bytes], bool]:
        """What became contiguous since the last call, and whether the end did."""
        fresh, ended = self._fresh, self._ended
        self._fresh, self._ended = [], False
        self.direct = not (self._segments or self.ignored or self.waiting or self.fin_at >= 0)
        return fresh, ended

    def consume(self, length: int) -> bool:
        """The application took `length` more bytes (FIN is one); returns whether a CREDIT is due."""
        window = self.window
        window.consume(length)
        if self.state is ReceiveState.OPEN:
            return window.due
        if window.consumed == window.received:
            self.state = ReceiveState.DONE
            return True
        return False

    def credit(self, stream: int) -> bytes:
        """A CREDIT frame with the current offset and a new limit."""
        limit = self.window.grant()
        return frames.encode(frames.Credit(stream, self.window.consumed, limit))

    def drop(self) -> None:
        """Drop what is held: the stream has ended."""
        self.direct = False
        self._segments.clear()
        self._starts.clear()
        self._held = 0
        self._fresh.clear()
        self._decompressor = None

    def _take(self, start: int, end: int, data: bytes, packed: bool) -> bool:
        window = self.window
        window.check(end)
        if 0 <= self.fin_at < end:
            raise RemoteProtocolError(f"stream data up to {end}, after FIN at {self.fin_at}")
        if end <= window.received:
            return True
        if start > window.received or self.waiting:
            return self._hold(start, end, data, packed)
        self._put(start, end, data, packed)
        self._advance()
        return True

    def _hold(self, start: int, end: int, data: bytes, packed: bool) -> bool:
        cost = len(data) + _OVERHEAD
        before = self._segments.get(start)
        if before is not None:
            if (packed or before[2]) and (end, packed) != (before[0], before[2]):
                raise RemoteProtocolError(f"two blocks at offset {start} that are not the same")
            if end <= before[0]:
                return True
            cost -= len(before[1]) + _OVERHEAD
        if self._held + cost > 2 * self.window.size and start > self.window.received:
            return False
        if before is None:
            heappush(self._starts, start)
        self._segments[start] = end, data, packed
        self.direct = False
        self._held += cost
        self._highest = max(self._highest, end)
        return True

    def _advance(self) -> None:
        """Put in order what has become contiguous."""
        if self.waiting:
            return
        window, starts = self.window, self._starts
        while starts and starts[0] <= window.received:
            start = heappop(starts)
            end, data, packed = self._segments.pop(start)
            self._held -= len(data) + _OVERHEAD
            if end > window.received:
                self._put(start, end, data, packed)
        if window.received == self.fin_at and self.state is ReceiveState.OPEN:
            window.received += 1
            self.state = ReceiveState.FINISHED
            self._ended = True

    def _put(self, start: int, end: int, data: bytes, packed: bool) -> None:
        """Append bytes that begin at or before the next offset and end after it."""
        known = self.window.received - start
        if packed:
            if known:
                raise RemoteProtocolError(f"a block at offset {start}, bytes came up to {start + known}")
            if not self.ignored:
                assert self._decompressor is not None
                self._fresh.append(self._decompressor.unpack(data, end - start))
        elif not self.ignored:
            self._fresh.append(data[known:] if known else data)
        self.window.received = end
