"""The order of sending: frames of the session and about streams, then credits, then the streams' data.

Streams with data take turns, and short ones go before bulk. A stream is short while it sent less than
`_SHORT` bytes lately: an idle stream's number decays by the bytes that the others send. So a keystroke or a
page's small objects overtake a download, and downloads share evenly. While short streams wait, bulk still
gets one turn in `_SHORT_IN_A_ROW + 1`.

Short streams do not share: all would be done late, and together. Each is *due* when all streams together
have sent `_STRETCH` times as many bytes as it has to send, and the one that is due first goes. So a keystroke
goes before an object, a page's objects go one after the other, and none waits for ever.

What was lost goes again in its stream's turn, before new bytes. Small segments of short streams go twice:
the second time in any packet that leaves `_REPEAT_AFTER` to `_REPEAT_UNTIL` seconds after the first, so that
the loss of one packet does not delay a keystroke.

Datagrams go before the streams, and nothing waits for them again: a packet that carried only datagrams has
no contents. Where they would take more than streams do, for longer than `_LEAD` bytes, the two take turns.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from typing import NamedTuple

from toxproxy.mux.datagrams import Outgoing
from toxproxy.mux.events import Event, StreamDrained
from toxproxy.mux.frames import BULK_TYPE
from toxproxy.mux.limits import Allotment
from toxproxy.mux.sender import Segment
from toxproxy.mux.stream import Stream, StreamState

_SHORT = 64 * 1024  # bytes after which a stream counts as bulk
_REMEMBERED = 4 * _SHORT  # bytes: a stream's number grows no larger, so that it can decay
_STRETCH = 32  # times its own bytes: so long a short stream may wait, as if it shared with so many others
_SHORT_IN_A_ROW = 8  # turns of short streams before bulk gets one
_LEAST_ROOM = 32  # bytes of a packet that are worth another turn
MAX_WAITING = 16 * 1024  # frames beside data and credits; an honest peer causes far fewer
_MOST_BYTES = 4 << 20  # of memory, for the same frames
_LEAST_BYTES = 512 * 1024  # their bound where memory is short
_OVERHEAD = 64  # bytes of memory for each frame that waits, beside its contents
_CREDIT = 21  # bytes of a CREDIT frame

_LEAD = 16 * 1024  # bytes of datagrams before streams get as many
_REPEATED = 300  # bytes: larger segments are not repeated
_REPEAT_AFTER, _REPEAT_UNTIL = 0.004, 0.050  # seconds
_MOST_REPEATS = 64  # segments that wait to be repeated; the oldest give way

_SENDING = (StreamState.OPEN, StreamState.OPENING)  # a requested stream is silent until it is accepted

Piece = bytes | memoryview


class ControlFrame(NamedTuple):
    """Any frame beside data and credit. If it is lost it goes again, OPEN and OPENED while `stream` lives."""

    frame: bytes
    stream: Stream | None


# Of one packet. A stream stands for its CREDIT, which goes again with the newest values if it is lost.
Contents = list[Segment | ControlFrame | Stream]


class Scheduler:
    """A `recovery.Source`: it holds all that waits for a packet, and chooses what goes next.

    What waits is counted in `memory`.

    Of one stream, OPEN and OPENED go before its data, FIN goes after it, and nothing after RESET.
    """

    def __init__(self, memory: Allotment, events: deque[Event]) -> None:
        self._memory = memory
        self._events = events
        self._control: deque[ControlFrame] = deque()
        self._waiting = 0  # bytes of memory that they take
        self._credits: dict[Stream, None] = {}
        self._repeats: deque[tuple[float, Segment]] = deque(maxlen=_MOST_REPEATS)  # sent when, and what
        self._short: list[tuple[int, int, Stream]] = []  # a heap: when each is due, its id
        self._bulk: deque[Stream] = deque()
        self._in_a_row = 0  # turns of short streams while bulk waits
        self._sent = 0  # bytes of data, by all streams: the clock of the streams' turns
        self.datagrams = Outgoing(memory)
        self._lead = 0  # bytes of datagrams more than of streams, lately

    @property
    def wants_to_send(self) -> bool:
        """Whether anything waits. It may not be needed any more; then `fill` drops it."""
        return bool(self._short or self._bulk or self._credits or self._control or self.datagrams)

    @property
    def overfull(self) -> bool:
        """Whether so many frames wait that no further request of the peer may be answered."""
        most = self._memory.share(_LEAST_BYTES, _MOST_BYTES)
        return len(self._control) >= MAX_WAITING or self._waiting > most

    def control(self, frame: bytes, stream: Stream | None = None) -> None:
        """Queue a frame. `stream` is that of OPEN or OPENED, which are not needed after its end."""
        self._control.append(ControlFrame(frame, stream))
        self._hold(len(frame) + _OVERHEAD)

    def credit(self, stream: Stream) -> None:
        """Queue a CREDIT. It is written when its turn comes, with the values of that moment."""
        self._credits[stream] = None

    def ready(self, stream: Stream) -> None:
        """Queue the stream if it can send."""
        if not stream.scheduled and stream.state in _SENDING and stream.sender.sendable:
            burst = stream.burst - (self._sent - stream.rested_at)
            stream.burst = burst if burst > 0 else 0
            stream.base = self._sent - _STRETCH * stream.sender.offset
            self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        stream.scheduled = True
        if stream.burst < _SHORT:
            due = stream.base + _STRETCH * (stream.sender.offset + stream.sender.buffered)
            heappush(self._short, (due, stream.id, stream))
        else:
            self._bulk.append(stream)

    def clear(self) -> None:
        """Drop everything: the session ends."""
        self._hold(-self._waiting)
        for queue in (self._control, self._credits, self._repeats, self._short, self._bulk):
            queue.clear()

    def delivered(self, contents: Contents) -> None:
        """The packet with these contents arrived."""
        for item in contents:
            if type(item) is Segment:
                item.stream.sender.delivered(item)
                self.ready(item.stream)  # it may have waited for memory

    def lost(self, contents: Contents) -> None:
        """The packet with these contents was lost: queue what still matters."""
        for item in contents:
            match item:
                case Segment(stream=stream):
                    stream.sender.lost(item)
                    self.ready(stream)
                case ControlFrame(frame, stream):
                    if stream is None or stream.state is not StreamState.CLOSED:
                        self.control(frame, stream)
                case Stream():
                    self.credit(item)

    def fill(self, pieces: list[Piece], room: int, now: float) -> Contents | None:
        """See `Source.fill`. The room of some packets must be `MAX_PACKED`: a lost PACKED frame may need it.

        It may cause `StreamDrained`.
        """
        items: Contents = []
        before = len(pieces)
        if self._control or self._credits or self._repeats:
            room = self._fill_first(pieces, room, now, items)
        if self.datagrams:
            alone = not (self._short or self._bulk)
            if alone or self._lead < _LEAD:
                used = self.datagrams.fill(pieces, room, now)
                self._lead = min(self._lead + used, _LEAD) if alone else self._lead + used
                room -= used
        unfit: list[Stream] = []
        while room >= _LEAST_ROOM and not self._control and (stream := self._next_stream()) is not None:
            stream.scheduled = False
            sender = stream.sender
            segment = sender.take(stream, room)
            if segment is None:
                unfit.append(stream)
                continue
            pieces.append(segment.frame)
            items.append(segment)
            used = len(segment.frame)
            room -= used
            if segment.frame[0] == BULK_TYPE:
                room = 0
            if used <= _REPEATED and stream.burst < _SHORT:
                self._repeats.append((now, segment))
            self._sent += used
            self._lead = max(self._lead - used, -_LEAD)
            stream.burst = min(stream.burst + used, _REMEMBERED)
            stream.rested_at = self._sent
            if sender.sendable:
                self._queue(stream)
            if sender.full and sender.buffered <= sender.low:
                sender.full = False
                self._events.append(StreamDrained(stream))
        for stream in unfit:
            if stream.sender.sendable:
                self._queue(stream)
        return items if len(pieces) > before else None

    def _fill_first(self, pieces: list[Piece], room: int, now: float, items: Contents) -> int:
        """Append all that goes before the streams' turns. Returns the room that is left."""
        while self._control:
            frame = self._control[0].frame
            if len(frame) > room:
                return room
            room -= len(frame)
            pieces.append(frame)
            items.append(self._control.popleft())
            self._hold(-len(frame) - _OVERHEAD)
        while self._credits and room >= _CREDIT:
            stream = next(iter(self._credits))
            del self._credits[stream]
            # Of a requested stream it would say that it was accepted; after RESET nothing follows.
            if stream.complete or stream.state in _SENDING:
                pieces.append(stream.receiver.credit(stream.id))
                items.append(stream)
                room -= _CREDIT
        while self._repeats and (age := now - self._repeats[0][0]) >= _REPEAT_AFTER:
            segment = self._repeats[0][1]
            needed = segment.frame and segment.stream.state is not StreamState.CLOSED
            if needed and segment.frame[0] != BULK_TYPE and not segment.queued and age <= _REPEAT_UNTIL:
                if len(segment.frame) > room:
                    break
                room -= len(segment.frame)
                pieces.append(segment.frame)
                items.append(segment)
            self._repeats.popleft()
        return room

    def _next_stream(self) -> Stream | None:
        while True:
            if self._short and not (self._bulk and self._in_a_row >= _SHORT_IN_A_ROW):
                self._in_a_row = self._in_a_row + 1 if self._bulk else 0
                stream = heappop(self._short)[2]
            elif self._bulk:
                self._in_a_row = 0
                stream = self._bulk.popleft()
            else:
                return None
            if stream.state is not StreamState.CLOSED:
                return stream

    def _hold(self, size: int) -> None:
        self._waiting += size
        self._memory.hold(size)
