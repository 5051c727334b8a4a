"""The order of sending: session frames, then the streams' control frames and credits, then their data.

Streams with data take turns, and short ones go before bulk. A stream is short while the number of
bytes that it sent lately is below `_SHORT`. So a keystroke or a page's small objects overtake a
download, and downloads share evenly. While short streams wait, bulk still gets one turn in
`_SHORT_IN_A_ROW + 1`. An idle stream's number decays by the bytes that the other streams send.

What was lost goes again in its stream's turn, before new bytes. Small segments of short streams go twice:
the second time in any packet that leaves `_REPEAT_AFTER` to `_REPEAT_UNTIL` seconds after the first, so that
the loss of one packet does not delay a keystroke.
"""

from __future__ import annotations

from collections import deque

from toxproxy.mux.contents import BlockedFrame, Contents, ControlFrame, CreditFrame, Item, SessionFrame
from toxproxy.mux.frames import DATA, DATA_HEADER, DATA_TYPE
from toxproxy.mux.limits import Limits
from toxproxy.mux.segment import Segment
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment

_SHORT = 64 * 1024  # bytes after which a stream counts as bulk
_REMEMBERED = 4 * _SHORT  # bytes: a stream's number grows no larger, so that it can decay
_SHORT_IN_A_ROW = 8  # turns of short streams before bulk gets one
_LEAST_ROOM = 32  # bytes of a packet that are worth another turn
MAX_WAITING = 16 * 1024  # frames beside data and credits; an honest peer causes far fewer
_MOST_BYTES = 4 << 20  # of memory, for the same frames
_LEAST_BYTES = 512 * 1024  # their bound where memory is short
_OVERHEAD = 64  # bytes of memory for each frame that waits, beside its contents
_CREDIT = 21  # bytes of a CREDIT frame

_REPEATED = 300  # bytes: larger segments are not repeated
_REPEAT_AFTER, _REPEAT_UNTIL = 0.004, 0.050  # seconds
_MOST_REPEATS = 64  # segments that wait to be repeated; the oldest give way

Piece = bytes | memoryview


class Scheduler:
    """Holds everything that waits for a packet, and chooses what goes next.

    Of one stream, OPEN and OPENED go before its data, FIN goes after it, and nothing after RESET.
    The memory of waiting frames is counted in `memory`. Streams whose send buffer was full and has room
    again are added to `drained`.
    """

    def __init__(self, memory: Allotment | None = None) -> None:
        self._memory = memory or Allotment(Limits())
        self._waiting = 0  # bytes of memory that session and control frames take
        self.established = False  # before that, only session frames are sent
        self.drained: list[Stream] = []
        self._session: deque[SessionFrame] = deque()
        self._control: deque[ControlFrame | BlockedFrame] = deque()
        self._credits: dict[Stream, None] = {}
        self._repeats: deque[tuple[float, Segment]] = deque(maxlen=_MOST_REPEATS)  # sent when, and what
        self._short: deque[Stream] = deque()
        self._bulk: deque[Stream] = deque()
        self._in_a_row = 0  # turns of short streams while bulk waits
        self._sent = 0  # bytes of data, by all streams

    def __bool__(self) -> bool:
        """Whether anything waits that could be sent now. What was acknowledged meanwhile may be counted."""
        if self._session or not self.established:
            return bool(self._session)
        return bool(self._short or self._bulk or self._credits or self._control)

    def session(self, frame: bytes) -> None:
        """Queue a frame of the session."""
        self._session.append(SessionFrame(frame))
        self._hold(len(frame) + _OVERHEAD)

    def control(self, frame: bytes, stream: Stream | None) -> None:
        """Queue OPEN or OPENED of `stream`, or REFUSED or RESET, which need none."""
        self._control.append(ControlFrame(frame, stream))
        self._hold(len(frame) + _OVERHEAD)

    @property
    def overfull(self) -> bool:
        """Whether so many frames wait that no further request of the peer may be answered."""
        if len(self._session) + len(self._control) >= MAX_WAITING:
            return True
        return self._waiting > _LEAST_BYTES and self._waiting > self._memory.share(_LEAST_BYTES, _MOST_BYTES)

    def credit(self, stream: Stream) -> None:
        """Queue a CREDIT. It is written when its turn comes, with the values of that moment.

        It would say that a requested stream was accepted, so there is none before that.
        """
        if stream.state is not StreamState.REQUESTED:
            self._credits[stream] = None

    def ready(self, stream: Stream) -> None:
        """Queue the stream if it can send. A requested stream cannot before it is accepted."""
        if stream.scheduled or stream.state not in _SENDING:
            return
        if stream.sender.sendable:
            stream.scheduled = True
            stream.burst = max(0, stream.burst - (self._sent - stream.rested_at))
            (self._short if stream.burst < _SHORT else self._bulk).append(stream)
        elif (frame := stream.sender.blocked(stream.id)) is not None:
            self._control.append(BlockedFrame(frame, stream))
            self._hold(len(frame) + _OVERHEAD)

    def reset(self, stream: Stream) -> None:
        """Drop the stream's CREDIT: no frame may follow its RESET."""
        self._credits.pop(stream, None)

    def clear(self) -> None:
        """Drop everything: the session ends."""
        self._session.clear()
        self._control.clear()
        self._hold(-self._waiting)
        self._credits.clear()
        self._repeats.clear()
        self._short.clear()
        self._bulk.clear()

    def lost(self, item: Item) -> None:
        """A packet with this item was lost: queue what still matters."""
        match item:
            case Segment(stream=stream):
                stream.sender.lost(item)
                self.ready(stream)
            case SessionFrame(frame):
                self._session.append(item)
                self._hold(len(frame) + _OVERHEAD)
            case ControlFrame(frame, stream):
                if stream is None or stream.state is not StreamState.CLOSED:
                    self._control.append(item)
                    self._hold(len(frame) + _OVERHEAD)
            case BlockedFrame(_, stream):
                stream.sender.blocked_lost()
                self.ready(stream)
            case CreditFrame(stream):
                if stream.complete or stream.state is not StreamState.CLOSED:
                    self.credit(stream)

    def fill(self, pieces: list[Piece], room: int, now: float) -> Contents | None:
        """Append frames of at most `room` bytes in all; returns what they are, or None if there are none.

        A lost PACKED frame waits for a room of its length. `MAX_PACKED` is enough for any.
        """
        items: list[Item] = []
        if self._session or self._control or self._credits or self._repeats:
            room = self._fill_frames(pieces, room, now, items)
        if not self.established or self._session or self._control:
            return items or None
        unfit: list[Stream] = []
        while room >= _LEAST_ROOM and (stream := self._next_stream()) is not None:
            stream.scheduled = False
            sender = stream.sender
            segment = sender.take(stream, room, bool(items))
            if segment is not None:
                used = _write(pieces, segment)
                room -= used
                if used <= _REPEATED and stream.burst < _SHORT:
                    self._repeats.append((now, segment))
                self._sent += used
                stream.burst = min(stream.burst + used, _REMEMBERED)
                stream.rested_at = self._sent
                items.append(segment)
                if sender.buffered and sender.offset < sender.limit:  # as `ready`, in the usual case
                    stream.scheduled = True
                    (self._short if stream.burst < _SHORT else self._bulk).append(stream)
                else:
                    self.ready(stream)
                if sender.full and sender.buffered <= sender.low:
                    sender.full = False
                    self.drained.append(stream)
            elif sender.sendable:
                unfit.append(stream)
        for stream in unfit:
            self.ready(stream)
        if len(items) == 1 and type(items[0]) is Segment:
            return items[0]
        return items or None

    def _fill_frames(self, pieces: list[Piece], room: int, now: float, items: list[Item]) -> int:
        """Append all that goes before the streams' turns. Returns the room that is left."""
        queues: list[deque[SessionFrame] | deque[ControlFrame | BlockedFrame]] = [self._session]
        if self.established:
            queues.append(self._control)
        for queue in queues:
            while queue:
                frame = queue[0].frame
                if len(frame) > room:
                    return room
                room -= len(frame)
                self._hold(-len(frame) - _OVERHEAD)
                pieces.append(frame)
                items.append(queue.popleft())
        while self._credits and self.established and room >= _CREDIT:
            stream = next(iter(self._credits))
            del self._credits[stream]
            pieces.append(stream.receiver.credit(stream.id))
            items.append(CreditFrame(stream))
            room -= _CREDIT
        return self._fill_repeats(pieces, room, now, items)

    def _fill_repeats(self, pieces: list[Piece], room: int, now: float, items: list[Item]) -> int:
        repeats = self._repeats
        while repeats and repeats[0][0] + _REPEAT_AFTER <= now:
            sent_at, segment = repeats[0]
            known = segment.data is None or segment.queued or segment.stream.state is StreamState.CLOSED
            if not known and now <= sent_at + _REPEAT_UNTIL:
                assert segment.data is not None
                if len(segment.data) + DATA_HEADER > room:
                    break
                room -= _write(pieces, segment)
                items.append(segment)
            repeats.popleft()
        return room

    def _hold(self, size: int) -> None:
        self._waiting += size
        self._memory.hold(size)

    def _next_stream(self) -> Stream | None:
        while True:
            if self._short and not (self._bulk and self._in_a_row >= _SHORT_IN_A_ROW):
                self._in_a_row = self._in_a_row + 1 if self._bulk else 0
                stream = self._short.popleft()
            elif self._bulk:
                self._in_a_row = 0
                stream = self._bulk.popleft()
            else:
                return None
            if stream.state is not StreamState.CLOSED:
                return stream


_SENDING = (StreamState.OPENING, StreamState.OPEN)


def _write(pieces: list[Piece], segment: Segment) -> int:
    """Append the frame of a segment; returns its length."""
    data = segment.data
    assert data is not None
    size = len(data)
    if segment.whole:
        pieces.append(data)
        return size
    pieces.append(DATA.pack(DATA_TYPE, segment.stream.id, segment.start, size))
    pieces.append(data)
    return size + DATA_HEADER
