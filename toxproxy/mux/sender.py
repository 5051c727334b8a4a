"""The sending direction of a stream.

READY -> FINISHING -> FINISHED -> DONE      finish(), FIN sent, CREDIT covers FIN
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Compressor
from toxproxy.mux.frames import DATA_HEADER
from toxproxy.mux.limits import Limits
from toxproxy.mux.segment import Segment
from toxproxy.mux.window import Allotment

if TYPE_CHECKING:
    from toxproxy.mux.stream import Stream

HIGH_WATER = 256 * 1024  # bytes that wait to be sent, above which the writer should pause
LOW_WATER = 64 * 1024  # bytes at which it may go on
LEAST_BUFFER = 8 * 1024  # bytes: the high-water mark where memory is short, so that every stream goes on

_LEAST_PACKED = 256  # bytes: a smaller rest of a packet is not worth a block
_FIN = 13  # bytes of a FIN frame


class SendState(Enum):
    READY = "ready"
    FINISHING = "finishing"
    FINISHED = "finished"
    DONE = "done"


class Sender:
    """Bytes from the application, until the peer has acknowledged them.

    It is finished when FIN was sent, and done when the peer's application has taken everything. With
    `compress`, bytes go in PACKED frames where that pays. All bytes are counted in `memory`, which also
    decides when the writer should pause: when between `LEAST_BUFFER` and `HIGH_WATER` bytes wait.
    """

    __slots__ = (
        "_at", "_blocked_at", "_chunks", "_compressor", "_held", "_lost", "_memory",
        "buffered", "full", "limit", "low", "offset", "state",
    )  # fmt: skip

    def __init__(self, limit: int, *, compress: bool = False, memory: Allotment | None = None) -> None:
        self.state = SendState.READY
        self.offset = 0  # of the next byte that was never sent
        self.limit = limit  # bytes before this offset may be sent
        self.buffered = 0  # bytes that were never sent
        self.full = False  # the writer was told to pause, …
        self.low = LOW_WATER  # … until no more than this many bytes are buffered
        self._blocked_at = -1  # the limit of the last BLOCKED
        self._chunks: deque[bytes] = deque()
        self._at = 0  # how much of the first chunk was sent
        self._lost: deque[Segment] = deque()  # to be sent again; some may be acknowledged meanwhile
        self._compressor = Compressor() if compress else None
        self._memory = memory or Allotment(Limits())
        self._held = 0  # bytes of memory: of chunks, the first one whole, and of segments

    @property
    def most(self) -> int:
        """Bytes above which the writer should pause, at this moment."""
        return self._memory.share(LEAST_BUFFER, HIGH_WATER)

    def write(self, data: bytes) -> None:
        """Queue bytes. Raises `LocalProtocolError` after `finish`."""
        if self.state is not SendState.READY:
            raise LocalProtocolError("write after the end of the stream")
        if data:
            self._chunks.append(data)
            self._hold(len(data))
            self.buffered += len(data)
            if not self.full and self.buffered > (most := self.most):
                self.full = True
                self.low = min(LOW_WATER, most // 4)

    def finish(self) -> None:
        """End this direction after everything written so far."""
        if self.state is SendState.READY:
            self.state = SendState.FINISHING

    @property
    def sendable(self) -> bool:
        """Whether something waits that may be sent."""
        if self._lost:
            return True
        if self.buffered:
            return self.offset < self.limit
        return self.state is SendState.FINISHING

    def take(self, stream: Stream, room: int, rest: bool = False) -> Segment | None:
        """What this stream sends next, in a frame of at most `room` bytes. None if nothing does or fits.

        Lost segments go first, then new bytes, at the end FIN. `rest` says that the room is what other
        frames left of a packet.
        """
        if self._lost and ((segment := self._take_lost(room)) is not None or self._lost):
            return segment
        waiting = self.limit - self.offset
        if waiting > self.buffered:
            waiting = self.buffered
        if waiting <= 0:
            return self._take_fin(stream, room)
        size = room - DATA_HEADER
        if size <= 0:
            return None
        if self._compressor is not None:
            if rest and size < _LEAST_PACKED and size < waiting and self._compressor.trying:
                return None
            if (segment := self._pack(stream, waiting, size)) is not None:
                return segment
        if size > waiting:
            size = waiting
        offset = self.offset
        return Segment(stream, offset, self._cut(size))

    def delivered(self, segment: Segment) -> None:
        """The peer has this segment. Does nothing if that was known."""
        data = segment.data
        if data is None:
            for part in segment.parts:
                self.delivered(part)
        elif self.state is not SendState.DONE:
            segment.data = None
            self._hold(-len(data))

    def lost(self, segment: Segment) -> None:
        """Send again what was not acknowledged of this segment."""
        if segment.data is None:
            for part in segment.parts:
                self.lost(part)
        elif not segment.queued and self.state is not SendState.DONE:
            segment.queued = True
            self._lost.append(segment)

    def blocked(self, stream: int) -> bytes | None:
        """A BLOCKED frame if bytes wait at the limit, once for each limit; else None."""
        if not self.buffered or self.offset < self.limit or self._blocked_at == self.limit:
            return None
        self._blocked_at = self.limit
        return frames.encode(frames.Blocked(stream, self.limit))

    def blocked_lost(self) -> None:
        """The last BLOCKED did not arrive: `blocked` says it again, if it is still so."""
        self._blocked_at = -1

    def credited(self, consumed: int, limit: int) -> None:
        """CREDIT came: the peer has consumed everything before `consumed`, and accepts bytes before `limit`.

        Raises `RemoteProtocolError` for credit beyond what was sent.
        """
        finished = self.state in (SendState.FINISHED, SendState.DONE)
        if consumed > self.offset + finished:
            raise RemoteProtocolError(f"credit for {consumed} bytes of a stream, sent were {self.offset}")
        self.limit = max(self.limit, limit)
        if finished and consumed > self.offset:
            self.drop()

    def drop(self) -> None:
        """Drop everything: the peer has it, or the stream has ended."""
        self._chunks.clear()
        self._lost.clear()
        self._hold(-self._held)
        self._compressor = None
        self.buffered = 0
        self.state = SendState.DONE

    def _take_lost(self, room: int) -> Segment | None:
        lost = self._lost
        while lost:
            segment = lost[0]
            data = segment.data
            if data is None:
                lost.popleft()
                continue
            size = room if segment.whole else room - DATA_HEADER
            if len(data) > size:
                if segment.whole or size <= 0:
                    return None
                segment, rest = segment.split(size)
                rest.queued = True
                lost[0] = rest
            else:
                lost.popleft()
                segment.queued = False
            return segment
        return None

    def _take_fin(self, stream: Stream, room: int) -> Segment | None:
        if self.buffered or self.state is not SendState.FINISHING or room < _FIN:
            return None
        self.state = SendState.FINISHED
        self._hold(_FIN)
        return Segment(stream, self.offset, frames.encode(frames.Fin(stream.id, self.offset)), True)

    def _pack(self, stream: Stream, waiting: int, size: int) -> Segment | None:
        """A PACKED frame, no longer than DATA with `size` bytes would be. None where that does not pay."""
        compressor = self._compressor
        assert compressor is not None
        reach = compressor.reach(waiting, size)
        if not reach or (packed := compressor.pack(self._peek(reach), size)) is None:
            return None
        length, block = packed
        frame = frames.encode(frames.Packed(stream.id, self.offset, length, block))
        segment = Segment(stream, self.offset, frame, True)
        self._hold(len(frame) - length)  # `_skip` counts the raw bytes as a segment's
        self._skip(length)
        return segment

    def _cut(self, size: int) -> bytes:
        """The next `size` bytes, which are a segment's from now on."""
        chunk, start = self._chunks[0], self._at
        end = start + size
        if end >= len(chunk):
            data = self._peek(size)
            self._skip(size)
            return data
        self._at = end
        self.buffered -= size
        self.offset += size
        self._hold(size)
        return chunk[start:end]

    def _peek(self, size: int) -> bytes:
        """The next `size` bytes."""
        chunk, start = self._chunks[0], self._at
        if len(chunk) - start >= size:
            return chunk[start : start + size]  # CPython copies nothing if that is all of it
        pieces = [chunk[start:]]
        left = size - len(pieces[0])
        index = 1
        while left:
            piece = self._chunks[index][:left]
            pieces.append(piece)
            left -= len(piece)
            index += 1
        return b"".join(pieces)

    def _skip(self, size: int) -> None:
        self.buffered -= size
        self.offset += size
        self._hold(size)
        chunks = self._chunks
        left = self._at + size
        while chunks and left >= len(chunks[0]):
            gone = len(chunks.popleft())
            left -= gone
            self._hold(-gone)
        self._at = left

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.hold(size)
