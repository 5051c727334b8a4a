"""The streams of a session that have not ended: their ids, their windows and their ends."""

from __future__ import annotations

from collections import deque

from toxproxy.address import Target
from toxproxy.errors import Refusal, RemoteProtocolError, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.mux import frames
from toxproxy.mux.events import Event, StreamClosed
from toxproxy.mux.limits import Limits
from toxproxy.mux.receiver import Receiver, ReceiveState
from toxproxy.mux.scheduler import Scheduler
from toxproxy.mux.sender import Sender, SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment
from toxproxy.recovery.ranges import Ranges

MOST_GAPS = 1024  # in the ids that the peer has used; an honest one causes as many as it has OPENs under way


class Streams:
    """Opens, finds and ends streams, within the limits of both sides. `peer` is the other side's HELLO.

    Ids are odd from the client and even from the server. None is used twice. An id of the peer is used
    from the first frame with it on, whichever that is.
    """

    def __init__(self, limits: Limits, *, client: bool) -> None:
        self.limits = limits
        self.memory = Allotment(limits)
        self.events: deque[Event] = deque()
        self.scheduler = Scheduler(self.memory, self.events)
        self.peer: frames.Hello | None = None
        self.living: dict[int, Stream] = {}
        self._next_id = 1 if client else 2
        self._opened = 0  # how many streams of this side have not ended
        self._used = Ranges()  # halves of the ids that the peer has used

    @property
    def compress(self) -> bool:
        """Whether both sides understand compression."""
        return self.peer is not None and bool(self.peer.features & frames.LZ4)

    # Ids

    def is_ours(self, number: int) -> bool:
        """Whether streams of this side have such ids."""
        return number % 2 == self._next_id % 2

    def was_used(self, number: int) -> bool:
        """Whether a stream had or has this id. Raises `RemoteProtocolError` for one that cannot be yet."""
        if not number or (self.is_ours(number) and number >= self._next_id):
            raise RemoteProtocolError(f"frame for stream {number}, which was never opened")
        return self.is_ours(number) or number >> 1 in self._used

    def use(self, number: int) -> None:
        """The peer has used this id. Raises `RemoteProtocolError` if it left out too many others."""
        self._used.add(number >> 1, (number >> 1) + 1)
        if len(self._used) > MOST_GAPS + 1:
            raise RemoteProtocolError(f"more than {MOST_GAPS} gaps in the ids of streams")

    # Beginnings

    def open(self, target: Target, *, compress: bool) -> Stream:
        """Send OPEN. Raises `StreamRefused` where either side allows no more streams."""
        assert self.peer is not None
        for whose, most in (("this side", self.limits.streams), ("the server", self.peer.streams)):
            if self._opened >= most:
                raise StreamRefused(Refusal.TOO_MANY_STREAMS, f"{whose} allows {most} connections at once")
        if self._next_id > frames.MAX_STREAM:
            text = "this session has opened as many connections as it can: restart the client"
            raise StreamRefused(Refusal.FAILED, text)
        # A peer that does not understand compression does not understand the flag either.
        kind = frames.TCP | frames.PLAIN if self.compress and not compress else frames.TCP
        compress = compress and self.compress
        sender = Sender(self.peer.window, self.memory, compress=compress)
        receiver = Receiver(self.memory.first(), compress=compress)
        stream = Stream(self._next_id, StreamState.OPENING, sender, receiver)
        opening = frames.Open(stream.id, kind, receiver.window.limit, target.port, target.host)
        self.scheduler.control(frames.encode(opening), stream)  # raises if no frame can carry the target
        self._next_id += 2
        self._opened += 1
        self._keep(stream)
        return stream

    @property
    def full(self) -> bool:
        """Whether the peer has as many streams as it may."""
        return len(self.living) - self._opened >= self.limits.streams

    def request(self, frame: frames.Open) -> Stream:
        """OPEN came: a new stream of the peer's."""
        packs = self.compress and not frame.kind & frames.PLAIN
        sender = Sender(frame.window, self.memory, compress=packs)
        receiver = Receiver(self.limits.early_window, compress=self.compress)
        stream = Stream(frame.stream, StreamState.REQUESTED, sender, receiver)
        stream.said = frame
        self._keep(stream)
        return stream

    def accept(self, stream: Stream) -> None:
        """Give a requested stream the window of a new stream, and send OPENED."""
        stream.state = StreamState.OPEN
        window = stream.receiver.window
        self.memory.hold(-window.size)
        window.resize(max(window.size, self.memory.first()))
        self.memory.hold(window.size)
        self.scheduler.control(frames.encode(frames.Opened(stream.id, window.grant())), stream)
        if stream.receiver.state is ReceiveState.DONE:
            self.scheduler.credit(stream)
        self.scheduler.ready(stream)

    def refuse(self, number: int, code: Refusal, text: str) -> None:
        """Send REFUSED."""
        self.scheduler.control(frames.encode(frames.Refused(number, code, text)))

    # Ends

    def consume(self, stream: Stream, length: int) -> None:
        """The application took `length` bytes; the end counts as one."""
        window = stream.receiver.window
        if stream.receiver.consume(length):
            self.scheduler.credit(stream)
        if window.used_up:
            self.widen(stream)
            window.used_up = False
        self.close_if_done(stream)

    def widen(self, stream: Stream) -> None:
        """The peer has used up a window: enlarge it if the application keeps up, and tell the peer."""
        window = stream.receiver.window
        if stream.state is StreamState.OPEN and window.is_kept_up_with:
            window.used_up = False
            self.memory.widen(window)
            self.scheduler.credit(stream)

    def discard(self, stream: Stream) -> None:
        """Count the bytes of a stream that nobody reads as consumed: the peer needs the credit to finish."""
        window = stream.receiver.window
        self.consume(stream, window.received - window.consumed)

    def close_if_done(self, stream: Stream) -> None:
        """Forget a stream whose directions are done, and reset one that is done here and ignored."""
        if stream.done:
            self.forget(stream, tell=True)
        elif stream.receiver.ignored and stream.sender.state is SendState.DONE:
            self.reset(stream, ResetCode.CANCELLED, tell=True)

    def reset(self, stream: Stream, code: ResetCode, *, tell: bool = False) -> None:
        """Send RESET; no frame of the stream follows it."""
        self.scheduler.control(frames.encode(frames.Reset(stream.id, code)))
        self.forget(stream, tell=tell)

    def forget(self, stream: Stream, error: StreamError | None = None, *, tell: bool = False) -> None:
        """The stream has ended. The owner hears of it if there is an error, or if it is to be told."""
        if tell or error is not None:
            self.events.append(StreamClosed(stream, error))
        del self.living[stream.id]
        self._opened -= self.is_ours(stream.id)
        self.memory.hold(-stream.receiver.window.size)
        stream.complete = stream.done
        stream.state = StreamState.CLOSED
        stream.sender.drop()
        stream.receiver.drop()

    def end(self, code: ResetCode) -> None:
        """The session has ended, and all streams with it."""
        self.scheduler.clear()
        for stream in list(self.living.values()):
            self.forget(stream, StreamReset(code))

    def _keep(self, stream: Stream) -> None:
        self.living[stream.id] = stream
        self.memory.hold(stream.receiver.window.size)
