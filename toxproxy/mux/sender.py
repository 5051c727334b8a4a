"""The sending direction of a stream.

READY -> FINISHING -> FINISHED -> DONE      finish(), FIN sent, CREDIT covers FIN
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Compressor
from toxproxy.mux.frames import BULK_HEADER, BULK_TYPE, DATA_HEADER, DATA_TYPE
from toxproxy.mux.limits import Allotment

if TYPE_CHECKING:
    from toxproxy.mux.stream import Stream

HIGH_WATER = 256 * 1024  # bytes that wait to be sent, above which the writer should pause
LOW_WATER = 64 * 1024  # bytes at which it may go on
LEAST_BUFFER = 8 * 1024  # bytes: the high-water mark where memory is short, so that every stream goes on

_LEAST_PACKED = 256  # bytes: a smaller rest of a packet is not worth a block
_FIN = 13  # bytes of a FIN frame
_HEADERS = {DATA_TYPE: DATA_HEADER, BULK_TYPE: BULK_HEADER}


class SendState(Enum):
    READY = "ready"
    FINISHING = "finishing"
    FINISHED = "finished"
    DONE = "done"


@dataclass(slots=True, eq=False)
class Segment:
    """A DATA, BULK, PACKED or FIN frame, until it is acknowledged; from then on `frame` is empty.

    More than one packet may carry the same segment: the first that arrives is enough.
    """

    stream: Stream
    frame: bytes
    offset: int  # of its first byte
    queued: bool = False  # it waits to be sent again


class Sender:
    """Bytes from the application, until the peer has acknowledged them.

    With `compress`, they go in PACKED frames where that pays. All are counted in `memory`, which also decides
    when the writer should pause: when between `LEAST_BUFFER` and `HIGH_WATER` bytes wait.
    """

    def __init__(self, limit: int, memory: Allotment, *, compress: bool = False) -> None:
        self.state = SendState.READY
        self.offset = 0  # of the next byte that was never sent
        self.limit = limit  # bytes before this offset may be sent
        self.full = False  # the writer was told to pause, …
        self.low = LOW_WATER  # … until no more than this many bytes are buffered
        self._buffer = bytearray()  # what was never sent
        self._lost: deque[Segment] = deque()  # to be sent again; some may be acknowledged meanwhile
        self._compressor = Compressor() if compress else None
        self._memory = memory
        self._held = 0  # bytes of the buffer and of the frames that are not acknowledged

    @property
    def buffered(self) -> int:
        """Bytes that were never sent."""
        return len(self._buffer)

    @property
    def most(self) -> int:
        """Bytes above which the writer should pause, at this moment."""
        return self._memory.share(LEAST_BUFFER, HIGH_WATER)

    def write(self, data: bytes) -> None:
        """Queue bytes. Raises `LocalProtocolError` after `finish`."""
        if self.state is not SendState.READY:
            raise LocalProtocolError("write after the end of the stream")
        self._buffer += data
        self._hold(len(data))
        if not self.full and len(self._buffer) > (most := self.most):
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
        if self._buffer:
            if self._memory.left <= 0 and self._held - len(self._buffer) > LEAST_BUFFER:
                return False  # what the peer does not acknowledge is memory, too
            return self.offset < self.limit
        return self.state is SendState.FINISHING

    def take(self, stream: Stream, room: int) -> Segment | None:
        """What goes next, in a frame of at most `room` bytes: lost segments, then new bytes, at the end FIN.

        None if nothing does or fits.
        """
        if self._lost and ((segment := self._take_lost(room)) is not None or self._lost):
            return segment
        buffer, compressor = self._buffer, self._compressor
        waiting = self.limit - self.offset
        if waiting > len(buffer):
            waiting = len(buffer)
        size, offset = room - DATA_HEADER, self.offset
        if waiting > 0 and size > 0:
            if compressor is not None and size < min(_LEAST_PACKED, waiting):
                return None
            if compressor is not None and (packed := compressor.pack(buffer, waiting, size)) is not None:
                length, block = packed
                frame = frames.encode(frames.Packed(stream.id, offset, length, block))
            else:
                head, length = frames.data(stream.id, offset, waiting, room)
                frame = head + buffer[:length]
            del buffer[:length]
            self.offset += length
        elif self.state is SendState.FINISHING and not buffer and room >= _FIN:
            self.state = SendState.FINISHED
            length, frame = 0, frames.encode(frames.Fin(stream.id, offset))
        else:
            return None
        self._hold(len(frame) - length)
        return Segment(stream, frame, offset)

    def delivered(self, segment: Segment) -> None:
        """The peer has this segment. Does nothing if that was known."""
        if self.state is not SendState.DONE:
            self._hold(-len(segment.frame))
            segment.frame = b""

    def lost(self, segment: Segment) -> None:
        """Send this segment again, unless it was acknowledged."""
        if segment.frame and not segment.queued and self.state is not SendState.DONE:
            segment.queued = True
            self._lost.append(segment)

    def credited(self, consumed: int, limit: int) -> None:
        """CREDIT came. Raises `RemoteProtocolError` for credit beyond what was sent."""
        finished = self.state in (SendState.FINISHED, SendState.DONE)
        if consumed > self.offset + finished:
            raise RemoteProtocolError(f"credit for {consumed} bytes of a stream, sent were {self.offset}")
        self.limit = max(self.limit, limit)
        if finished and consumed > self.offset:
            self.drop()

    def drop(self) -> None:
        """Drop everything: the peer has it, or the stream has ended."""
        self._buffer.clear()
        self._lost.clear()
        self._hold(-self._held)
        self._compressor = None
        self.state = SendState.DONE

    def _take_lost(self, room: int) -> Segment | None:
        """The next lost segment. DATA and BULK are split if they do not fit.

        A packet that carried all of it, and arrives after all, then counts for the first part only.
        """
        while self._lost:
            segment = self._lost.popleft()
            if not segment.frame:  # acknowledged meanwhile
                continue
            if len(segment.frame) > room:
                if segment.frame[0] not in _HEADERS or room <= DATA_HEADER:
                    self._lost.appendleft(segment)
                    return None
                self._split(segment, room)
            segment.queued = False
            return segment
        return None

    def _split(self, segment: Segment, room: int) -> None:
        """Make a segment fit into the room; what does not fit is to be sent again, too."""
        frame, number, offset = segment.frame, segment.stream.id, segment.offset
        body = frame[_HEADERS[frame[0]] :]
        head, size = frames.data(number, offset, len(body), room)
        segment.frame = head + body[:size]
        self._hold(len(segment.frame) - len(frame))
        if body := body[size:]:
            head, _ = frames.data(number, offset + size, len(body), len(body) + DATA_HEADER)
            rest = Segment(segment.stream, head + body, offset + size)
            rest.queued = True
            self._lost.appendleft(rest)
            self._hold(len(rest.frame))

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.hold(size)
