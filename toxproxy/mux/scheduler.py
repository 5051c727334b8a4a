"""The order of sending: session frames, then the streams' control frames and credits, then their data.

Streams with data take turns, and short ones go before bulk. A stream is short while the number of
bytes that it sent lately is below `_SHORT`. So a keystroke or a page's small objects overtake a
download, and downloads share evenly. While short streams wait, bulk still gets one turn in
`_SHORT_IN_A_ROW + 1`. An idle stream's number decays by the bytes that the other streams send.
"""

from __future__ import annotations

from collections import deque

from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment

_SHORT = 64 * 1024  # bytes after which a stream counts as bulk
_REMEMBERED = 4 * _SHORT  # bytes: a stream's number grows no larger, so that it can decay
_SHORT_IN_A_ROW = 8  # turns of short streams before bulk gets one
MAX_WAITING = 16 * 1024  # frames beside data and credits; an honest peer causes far fewer
_MOST_BYTES = 4 << 20  # of memory, for the same frames
_LEAST_BYTES = 512 * 1024  # their bound where memory is short
_OVERHEAD = 64  # bytes of memory for each frame that waits, beside its contents


class Scheduler:
    """Holds everything that waits for the link, and chooses what goes next.

    Of one stream, OPEN and OPENED go before its data, FIN goes after it, and nothing after RESET.
    The memory of waiting frames is counted in `memory`.
    """

    def __init__(self, memory: Allotment | None = None) -> None:
        self._memory = memory or Allotment(Limits())
        self._waiting = 0  # bytes of memory that session and control frames take
        self.established = False  # before that, only session frames are sent
        self._session: deque[bytes] = deque()
        self._control: deque[tuple[int, bytes]] = deque()
        self._credits: dict[Stream, None] = {}
        self._short: deque[Stream] = deque()
        self._bulk: deque[Stream] = deque()
        self._in_a_row = 0  # turns of short streams while bulk waits
        self._sent = 0  # bytes of data, by all streams

    def __bool__(self) -> bool:
        """Whether anything could be sent now."""
        if self._session or not self.established:
            return bool(self._session)
        return bool(self._control or self._credits or self._short or self._bulk)

    def session(self, frame: bytes) -> None:
        """Queue a frame for channel 0."""
        self._session.append(frame)
        self._hold(len(frame) + _OVERHEAD)

    def control(self, stream_channel: int, frame: bytes) -> None:
        """Queue a stream's OPEN, OPENED, REFUSED or RESET."""
        self._control.append((stream_channel, frame))
        self._hold(len(frame) + _OVERHEAD)

    @property
    def overfull(self) -> bool:
        """Whether so many frames wait that no further request of the peer may be answered."""
        if len(self._session) + len(self._control) >= MAX_WAITING:
            return True
        return self._waiting > _LEAST_BYTES and self._waiting > self._memory.share(_LEAST_BYTES, _MOST_BYTES)

    def credit(self, stream: Stream) -> None:
        """Queue a CREDIT. It is written when its turn comes, with the values of that moment."""
        self._credits[stream] = None

    def ready(self, stream: Stream) -> None:
        """Queue the stream if it can send. A requested stream cannot before it is accepted."""
        if stream.state is StreamState.REQUESTED or stream.scheduled:
            return
        if stream.sender.sendable:
            stream.scheduled = True
            stream.burst = max(0, stream.burst - (self._sent - stream.rested_at))
            (self._short if stream.burst < _SHORT else self._bulk).append(stream)
        elif (frame := stream.sender.blocked(stream.id)) is not None:
            self.control(stream.channel, frame)

    def reset(self, stream: Stream) -> None:
        """Drop the stream's CREDIT: no frame may follow its RESET."""
        self._credits.pop(stream, None)

    def clear(self) -> None:
        """Drop everything: the session ends, and only a GOAWAY may still be queued."""
        self._session.clear()
        self._control.clear()
        self._hold(-self._waiting)
        self._credits.clear()
        self._short.clear()
        self._bulk.clear()

    def next(self, size: int) -> tuple[int, bytes, Stream | None] | None:
        """Take the next frame: (channel, frame, stream). None when nothing waits.

        `size` bounds the payload of a DATA frame, in bytes. The stream is None, unless its send buffer
        was full and now has room again.
        """
        if self._session:
            return 0, self._left(self._session.popleft()), None
        if not self.established:
            return None
        if self._control:
            channel, frame = self._control.popleft()
            return channel, self._left(frame), None
        if self._credits:
            stream = next(iter(self._credits))
            del self._credits[stream]
            return stream.channel, stream.receiver.credit(stream.id), None
        return self._next_turn(size)

    def _left(self, frame: bytes) -> bytes:
        self._hold(-len(frame) - _OVERHEAD)
        return frame

    def _hold(self, size: int) -> None:
        self._waiting += size
        self._memory.hold(size)

    def _next_turn(self, size: int) -> tuple[int, bytes, Stream | None] | None:
        while (stream := self._next_stream()) is not None:
            if stream.state is StreamState.CLOSED:
                continue
            sender = stream.sender
            frame = sender.next_frame(stream.id, size)
            self._sent += len(frame)
            stream.burst = min(stream.burst + len(frame), _REMEMBERED)
            stream.rested_at = self._sent
            stream.scheduled = False
            self.ready(stream)
            if sender.full and sender.buffered <= sender.low:
                sender.full = False
                return stream.channel, frame, stream
            return stream.channel, frame, None
        return None

    def _next_stream(self) -> Stream | None:
        if self._short and not (self._bulk and self._in_a_row >= _SHORT_IN_A_ROW):
            self._in_a_row = self._in_a_row + 1 if self._bulk else 0
            return self._short.popleft()
        self._in_a_row = 0
        return self._bulk.popleft() if self._bulk else None
