"""One stream: a sender, a receiver and what they have in common.

The two do not know each other, so each direction ends by itself (half-close).

    Sender    READY -> FINISHING -> FINISHED -> DONE      finish(), FIN sent, FIN acknowledged
    Receiver  OPEN  -> FINISHED  -> DONE                  FIN came, FIN consumed

A stream is over when both are DONE, or at once by RESET or REFUSED.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import cast

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.compression import Compressor, Decompressor
from toxproxy.mux.limits import Limits
from toxproxy.mux.window import Allotment, ReceiveWindow

HIGH_WATER = 256 * 1024  # bytes in a send buffer above which the writer should pause
LOW_WATER = 64 * 1024  # bytes at which it may go on
LEAST_BUFFER = 8 * 1024  # bytes: the high-water mark where memory is short, so that every stream goes on


class SendState(Enum):
    READY = "ready"
    FINISHING = "finishing"
    FINISHED = "finished"
    DONE = "done"


class ReceiveState(Enum):
    OPEN = "open"
    FINISHED = "finished"
    DONE = "done"


class StreamState(Enum):
    OPENING = "opening"  # opened here, not answered yet
    REQUESTED = "requested"  # opened by the peer, not answered yet
    OPEN = "open"
    CLOSED = "closed"


_MAY_BECOME = {
    StreamState.OPENING: {StreamState.OPEN, StreamState.CLOSED},
    StreamState.REQUESTED: {StreamState.OPEN, StreamState.CLOSED},
    StreamState.OPEN: {StreamState.CLOSED},
    StreamState.CLOSED: set(),
}


class Sender:
    """Bytes from the application that wait for the peer's credit and for their turn.

    It is finished when FIN was sent, and done when the peer's application has taken everything. With
    `compress`, bytes go in PACKED frames where that pays. Waiting bytes are counted in `memory`, which
    also decides when the buffer is full: between `LEAST_BUFFER` and `HIGH_WATER` bytes.
    """

    __slots__ = (
        "_blocked_at", "_chunks", "_compressor", "_held", "_memory",
        "buffered", "full", "limit", "low", "offset", "state",
    )  # fmt: skip

    def __init__(self, limit: int, *, compress: bool = False, memory: Allotment | None = None) -> None:
        self.state = SendState.READY
        self.offset = 0  # of the next byte to send
        self.limit = limit  # bytes before this offset may be sent
        self.buffered = 0
        self.full = False  # the writer was told to pause, …
        self.low = LOW_WATER  # … until no more than this many bytes are buffered
        self._blocked_at = -1  # the limit of the last BLOCKED
        self._chunks: deque[bytes | memoryview] = deque()
        self._compressor = Compressor() if compress else None
        self._memory = memory or Allotment(Limits())
        self._held = 0  # bytes of memory; a chunk sent in part counts in full

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
        """Whether a frame could be sent now."""
        if self.buffered:
            return self.offset < self.limit
        return self.state is SendState.FINISHING

    def next_frame(self, stream: int, size: int) -> bytes:
        """The next frame of this direction: DATA or PACKED, at the end FIN.

        `size` bounds the payload of DATA, in bytes. A PACKED frame is no longer than such a DATA frame.
        """
        if not self.buffered:
            self.state = SendState.FINISHED
            return frames.encode(frames.Fin(stream, self.offset))
        offset = self.offset
        waiting = min(self.buffered, self.limit - offset)
        if self._compressor is not None and (reach := self._compressor.reach(waiting, size)):
            raw = b"".join(self._take(reach))
            if (packed := self._compressor.pack(raw, size)) is not None:
                length, block = packed
                self._put_back(raw[length:])
                return frames.encode(frames.Packed(stream, offset, length, block))
            self._put_back(raw)
        return frames.encode_data(stream, offset, self._take(min(size, waiting)))

    def blocked(self, stream: int) -> bytes | None:
        """A BLOCKED frame if bytes wait at the limit, once for each limit; else None."""
        if not self.buffered or self.offset < self.limit or self._blocked_at == self.limit:
            return None
        self._blocked_at = self.limit
        return frames.encode(frames.Blocked(stream, self.limit))

    def _take(self, size: int) -> list[bytes | memoryview]:
        pieces: list[bytes | memoryview] = []
        left, released = size, 0
        while left and self._chunks:
            chunk = self._chunks[0]
            if len(chunk) <= left:
                pieces.append(self._chunks.popleft())
                left -= len(chunk)
                released += _size(chunk)
            else:
                view = memoryview(chunk)
                pieces.append(view[:left])
                self._chunks[0] = view[left:]
                left = 0
        self._hold(-released)
        self.buffered -= size - left
        self.offset += size - left
        return pieces

    def _put_back(self, unused: bytes) -> None:
        """Return bytes that were taken, so that the next frame begins with them."""
        if unused:
            self._chunks.appendleft(unused)
            self._hold(len(unused))
            self.buffered += len(unused)
            self.offset -= len(unused)

    def credited(self, consumed: int, limit: int) -> None:
        """CREDIT came: the peer has consumed everything before `consumed`, and accepts bytes before `limit`.

        Raises `RemoteProtocolError` for credit beyond what was sent.
        """
        finished = self.state in (SendState.FINISHED, SendState.DONE)
        if consumed > self.offset + finished:
            raise RemoteProtocolError(f"credit for {consumed} bytes of a stream, sent were {self.offset}")
        self.limit = max(self.limit, limit)
        if finished and consumed > self.offset:
            self.state = SendState.DONE

    def drop(self) -> None:
        """Drop what is queued: the stream has ended."""
        self._chunks.clear()
        self._hold(-self._held)
        self._compressor = None
        self.buffered = 0
        self.state = SendState.DONE

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.hold(size)


def _size(chunk: bytes | memoryview) -> int:
    """Bytes of memory that a chunk keeps allocated: a view keeps the whole object."""
    return len(cast(bytes, chunk.obj)) if isinstance(chunk, memoryview) else len(chunk)


class Receiver:
    """Counts the peer's bytes on their way to the application; it stores none of them.

    It is finished when FIN came, and done when the application knows of the end. With `compress` it
    accepts PACKED frames, and keeps the history to which later ones may refer.
    """

    __slots__ = ("_decompressor", "ignored", "state", "window")

    def __init__(self, window: int, *, compress: bool = False) -> None:
        self.state = ReceiveState.OPEN
        self.window = ReceiveWindow(window)
        self._decompressor = Decompressor() if compress else None
        self.ignored = False  # the application reads no more

    def data(self, offset: int, length: int) -> None:
        """DATA came. Raises `RemoteProtocolError` if it is out of order, beyond the limit or after FIN."""
        if self.state is not ReceiveState.OPEN:
            raise RemoteProtocolError("stream data after FIN")
        self.window.receive(offset, length)

    def packed(self, frame: frames.Packed) -> bytes:
        """PACKED came; returns its bytes, or nothing where the application reads no more.

        Raises `RemoteProtocolError` as `data` does, where the stream takes no PACKED frames, and for a
        block that is not LZ4 or does not hold the declared number of bytes.
        """
        if self._decompressor is None:
            raise RemoteProtocolError(f"PACKED frame for stream {frame.stream}, which takes none")
        self.data(frame.offset, frame.length)
        return b"" if self.ignored else self._decompressor.unpack(frame.block, frame.length)

    def fin(self, offset: int) -> None:
        """FIN came. Raises `RemoteProtocolError` for a second one, and where bytes before it are missing."""
        if self.state is not ReceiveState.OPEN or offset != self.window.received:
            raise RemoteProtocolError(f"FIN at offset {offset}, expected {self.window.received}")
        self.window.received += 1
        self.state = ReceiveState.FINISHED

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


class Stream:
    """A handle on one stream. `Multiplexer` makes it, and its methods take it.

    `data` is free for the owner of the multiplexer to use.
    """

    __slots__ = ("burst", "channel", "data", "id", "receiver", "rested_at", "scheduled", "sender", "state")

    def __init__(self, id: int, channel: int, state: StreamState, sender: Sender, receiver: Receiver) -> None:
        self.id = id
        self.channel = channel
        self.state = state
        self.sender = sender
        self.receiver = receiver
        self.scheduled = False
        self.burst = 0  # for the scheduler: bytes sent lately
        self.rested_at = 0  # for the scheduler: bytes that all streams had sent when this one last sent
        self.data: object = None

    def become(self, state: StreamState) -> None:
        """Change to another state. Raises `LocalProtocolError` where `_MAY_BECOME` does not allow it."""
        if state not in _MAY_BECOME[self.state]:
            raise LocalProtocolError(f"{self} cannot become {state.value}")
        self.state = state

    def check_answer(self) -> None:
        """OPENED or REFUSED came. Raises `RemoteProtocolError` where no answer is due."""
        if self.state is not StreamState.OPENING:
            raise RemoteProtocolError(f"second answer to OPEN of stream {self.id}")

    def check_data(self) -> None:
        """DATA, PACKED or FIN came. Raises `RemoteProtocolError` before OPENED."""
        if self.state is StreamState.OPENING:
            raise RemoteProtocolError(f"data of stream {self.id} before OPENED")

    @property
    def done(self) -> bool:
        """Whether both directions have ended and both sides know it."""
        return self.sender.state is SendState.DONE and self.receiver.state is ReceiveState.DONE

    def __repr__(self) -> str:
        return f"<Stream {self.id} {self.state.value} on channel {self.channel}>"
