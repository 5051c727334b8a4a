"""What the owner's calls and the peer's frames both change: streams, what waits to be sent, events."""

from __future__ import annotations

from collections import deque

from toxproxy.errors import CloseCode, ResetCode, StreamError, StreamReset
from toxproxy.mux import events, frames
from toxproxy.mux.limits import Limits
from toxproxy.mux.scheduler import Scheduler
from toxproxy.mux.sender import SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.streams import Streams
from toxproxy.mux.window import Allotment

OLDEST, NEWEST = 2, 2  # protocol versions spoken here


class Core:
    """The state of a `Multiplexer`, and how streams end. `peer` is the HELLO of the other side."""

    def __init__(self, *, client: bool, session: int, limits: Limits, memory: Allotment) -> None:
        self.client = client
        self.limits = limits
        self.closed = False
        self.ending: tuple[CloseCode, str] | None = None
        window, streams = limits.early_window, limits.streams
        self.hello = frames.Hello(OLDEST, NEWEST, session, frames.LZ4, window, streams)
        self.peer: frames.Hello | None = None
        self.streams = Streams(limits, memory, client=client)
        self.scheduler = Scheduler(memory)
        self.events: deque[events.Event] = deque()

    def close(self, code: CloseCode, text: str) -> None:
        """End the session with this code and text."""
        if not self.closed:
            self.ending = code, text
            self.end(ResetCode.GOING_AWAY)

    def consume(self, stream: Stream, length: int) -> None:
        """The application took `length` bytes; the end counts as one."""
        if stream.receiver.consume(length):
            self.scheduler.credit(stream)
        if stream.receiver.blocked:  # these bytes may have come just before BLOCKED, in one batch
            self.widen(stream)
            stream.receiver.blocked = False
        self.close_if_done(stream)

    def widen(self, stream: Stream) -> None:
        """The window is too small for the path, if the application has taken nearly everything."""
        if stream.receiver.window.is_kept_up_with:
            self.streams.widen(stream)
            self.scheduler.credit(stream)

    def discard(self, stream: Stream) -> None:
        """Count the bytes of a stream that nobody reads as consumed.

        The peer needs the credit to finish: two sides that ignore each other would never end otherwise.
        """
        if stream.state is not StreamState.CLOSED:
            window = stream.receiver.window
            self.consume(stream, window.received - window.consumed)

    def close_if_done(self, stream: Stream) -> None:
        """Forget a stream whose directions are done, and reset one that is done here and ignored."""
        if stream.state is StreamState.CLOSED:
            return
        if stream.done:
            self.forget(stream, None, tell=True)
        elif stream.receiver.ignored and stream.sender.state is SendState.DONE:
            self.send_reset(stream, ResetCode.CANCELLED)
            self.forget(stream, None, tell=True)

    def forget(self, stream: Stream, error: StreamError | None = None, *, tell: bool = False) -> None:
        """The stream has ended. The owner hears of it if there is an error, or if it is to be told."""
        self.streams.forget(stream)
        if tell or error is not None:
            self.events.append(events.StreamClosed(stream, error))

    def end(self, code: ResetCode) -> None:
        """End every stream."""
        self.closed = True
        self.scheduler.clear()
        for stream in list(self.streams.living.values()):
            told = stream.state is not StreamState.WAITING
            self.forget(stream, StreamReset(code) if told else None)

    def send_reset(self, stream: Stream, code: ResetCode) -> None:
        """Queue RESET; no frame of the stream follows it."""
        self.control(frames.Reset(stream.id, code))
        self.scheduler.reset(stream)

    def control(self, frame: frames.Frame, stream: Stream | None = None) -> None:
        """Queue OPEN or OPENED of `stream`, or REFUSED or RESET."""
        self.scheduler.control(frames.encode(frame), stream)
