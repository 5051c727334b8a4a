"""Who sends next: session frames, then the streams' control frames, then their data.

Data goes in turns, short exchanges before bulk: a stream counts as short as long as it has sent
little since it last had nothing to say, so a keystroke or a page's small objects pass a download,
while downloads share evenly. Bulk is never shut out: it gets one turn in `_SHORT_IN_A_ROW + 1`.
The count of an idle stream decays by the bytes that the others send.
"""

from __future__ import annotations

from collections import deque

from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment

_SHORT = 64 * 1024  # bytes that a stream may send before it counts as bulk
_REMEMBERED = 4 * _SHORT  # bytes that the others must send until a download is forgiven
_SHORT_IN_A_ROW = 8  # turns
MAX_WAITING = 16 * 1024  # frames, not counting data and credits; far more than an honest peer causes
_MOST_BYTES = 4 << 20  # of memory, for the same
_LEAST_BYTES = 512 * 1024  # the first of these where memory is short
_OVERHEAD = 64  # bytes of memory that a frame costs beyond its own


class Scheduler:
    """Everything that waits for the link, in the order in which it should go.

    A stream's own frames keep their order where it matters: OPEN and OPENED go before its
    data, FIN after it, and nothing after RESET. What waits counts in `memory`.
    """

    def __init__(self, memory: Allotment | None = None) -> None:
        self._memory = memory or Allotment(Limits())
        self._waiting = 0  # bytes of memory of session and control frames
        self.established = False  # until then session frames only
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
        """Whether so many frames wait that the peer's next question must not be answered."""
        if len(self._session) + len(self._control) >= MAX_WAITING:
            return True
        return self._waiting > _LEAST_BYTES and self._waiting > self._memory.share(_LEAST_BYTES, _MOST_BYTES)

    def credit(self, stream: Stream) -> None:
        """A CREDIT is due; it is written when its turn comes, with what is true by then."""
        self._credits[stream] = None

    def ready(self, stream: Stream) -> None:
        """The stream may have something to send; what is written before OPENED waits for it."""
        if stream.state is StreamState.REQUESTED or stream.scheduled:
            return
        if stream.sender.sendable:
            stream.scheduled = True
            stream.burst = max(0, stream.burst - (self._sent - stream.rested_at))
            (self._short if stream.burst < _SHORT else self._bulk).append(stream)
        elif (frame := stream.sender.blocked(stream.id)) is not None:
            self.control(stream.channel, frame)

    def reset(self, stream: Stream) -> None:
        """Nothing of the stream goes after its RESET."""
        self._credits.pop(stream, None)

    def clear(self) -> None:
        """Forget everything: the session ends, and only its last word is still to come."""
        self._session.clear()
        self._control.clear()
        self._hold(-self._waiting)
        self._credits.clear()
        self._short.clear()
        self._bulk.clear()

    def next(self, size: int) -> tuple[int, bytes, Stream | None] | None:
        """The next frame as (channel, frame, the stream whose buffer now has room again).

        `size` bounds a DATA frame's payload in bytes. None when nothing waits.
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
