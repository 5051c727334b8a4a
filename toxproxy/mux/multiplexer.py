"""One side of a session: frames in, frames and events out.

    owner                         Multiplexer                        link
      open, write, finish, ...  ->                -> frames_to_send(budget)
      next_event()              <-                <- receive(channel, frame)

No call waits, and nothing is sent on its own: after any call, take events until `next_event`
returns None, and take `frames_to_send` when the link has room. Methods raise `LocalProtocolError`
for a mistake of the caller. `receive` raises `RemoteProtocolError` for a mistake of the peer; the
session is closed then, and a GOAWAY is left to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from toxproxy.address import Target
from toxproxy.errors import (
    GoAwayCode,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    ResetCode,
    StreamError,
    StreamRefused,
    StreamReset,
)
from toxproxy.mux import events, frames
from toxproxy.mux.limits import Limits
from toxproxy.mux.scheduler import Scheduler
from toxproxy.mux.stream import SendState, Stream, StreamState
from toxproxy.mux.streams import Streams
from toxproxy.mux.window import Allotment

OLDEST, NEWEST = 1, 1  # protocol versions spoken here


class Multiplexer:
    """One side of a session between two peers, over one link.

    The client sends HELLO first, and the server answers with its own. For the server the session is
    established with the next frame of the client. If it sent an OPEN before, that could overtake its
    HELLO on another channel. `session` is this side's session id: 64 random bits.
    """

    def __init__(
        self,
        *,
        client: bool,
        session: int,
        limits: Limits | None = None,
        memory: Allotment | None = None,
        channels: int = 255,
    ) -> None:
        self.limits = limits or Limits()
        self.memory = memory or Allotment(self.limits)
        self.closed = False
        self._client = client
        window, streams = self.limits.early_window, self.limits.streams
        self._hello = frames.Hello(OLDEST, NEWEST, session, frames.LZ4, window, streams)
        self._peer: frames.Hello | None = None
        self._version = 0
        self._lz4 = False  # whether both sides understand PACKED frames
        self._streams = Streams(self.limits, self.memory, client=client, channels=channels)
        self._scheduler = Scheduler(self.memory)
        self._events: deque[events.Event] = deque()
        if client:
            self._scheduler.session(frames.encode(self._hello))

    # The owner's calls

    @property
    def established(self) -> bool:
        """Whether streams can be opened: both sides have sent HELLO."""
        return self._scheduler.established

    @property
    def identity(self) -> tuple[int, int] | None:
        """The client's and the server's session id, once both are known."""
        if self._peer is None:
            return None
        ids = self._hello.session, self._peer.session
        return ids if self._client else ids[::-1]

    @property
    def streams(self) -> dict[int, Stream]:
        """The streams that have not ended, by id."""
        return self._streams.living

    def open(self, target: Target, *, compress: bool = True) -> Stream:
        """Open a stream to `target`. Bytes may be written at once, within the peer's early window.

        With `compress` each side compresses what it sends where that pays, if both sides understand
        compression. Without it neither side does.

        Raises `StreamRefused` when the peer allows no more streams, or all ids of the session are used up.
        """
        if self.closed or self._peer is None or not self.established:
            raise LocalProtocolError("no stream can be opened without an established session")
        stream = self._streams.open(self._peer, compress=self._lz4 and compress)
        # A peer that does not understand compression does not understand the flag either.
        kind = frames.TCP | frames.PLAIN if self._lz4 and not compress else frames.TCP
        window = stream.receiver.window.limit
        try:
            self._control(stream, frames.Open(stream.id, kind, window, target.port, target.host))
        except BaseException:  # the target cannot be encoded, so the peer will never hear of this stream
            self._streams.forget(stream)
            raise
        return stream

    def accept(self, stream: Stream) -> None:
        """Answer a requested stream with OPENED."""
        self._expect(stream, StreamState.REQUESTED)
        self._control(stream, frames.Opened(stream.id, self._streams.accept(stream)))
        self._scheduler.ready(stream)

    def refuse(self, stream: Stream, code: Refusal, text: str) -> None:
        """Answer a requested stream with REFUSED and forget it."""
        self._expect(stream, StreamState.REQUESTED)
        self._control(stream, frames.Refused(stream.id, code, text))
        self._forget(stream)

    def write(self, stream: Stream, data: bytes) -> bool:
        """Queue bytes on a stream; returns whether the writer should pause until `StreamDrained`."""
        stream.sender.write(data)
        self._scheduler.ready(stream)
        return stream.sender.full

    def finish(self, stream: Stream) -> None:
        """End this direction of a stream after everything written so far."""
        stream.sender.finish()
        self._scheduler.ready(stream)

    def consumed(self, stream: Stream, length: int) -> None:
        """The application has taken `length` more bytes of a stream; the end counts as one."""
        if stream.state is not StreamState.CLOSED and not stream.receiver.ignored:
            self._consume(stream, length)

    def ignore(self, stream: Stream) -> None:
        """The application reads no more of this stream.

        Bytes that still come are dropped. The stream is reset when the peer has taken everything
        sent from here and has not ended its own direction by then.
        """
        stream.receiver.ignored = True
        self._discard(stream)

    def reset(self, stream: Stream, code: ResetCode) -> None:
        """End a stream at once; queued bytes are dropped. No `StreamClosed` follows."""
        if stream.state is not StreamState.CLOSED:
            self._send_reset(stream, code)
            self._forget(stream)

    def ping(self, value: int) -> None:
        """Ask the peer for a `PongReceived` with this value (64 bits)."""
        if self.closed or self._peer is None:
            raise LocalProtocolError("no ping without a session")
        self._scheduler.session(frames.encode(frames.Ping(value)))

    def close(self, code: GoAwayCode, text: str = "") -> None:
        """End the session: every stream is closed, and a GOAWAY is left to send."""
        if not self.closed:
            self._end(ResetCode.GOING_AWAY)
            self._scheduler.session(frames.encode(frames.GoAway(code, text)))

    def lost(self) -> None:
        """The link is gone for good: every stream is closed."""
        if not self.closed:
            self._end(ResetCode.LINK_LOST)

    def next_event(self) -> events.Event | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    # The link's calls

    @property
    def wants_to_send(self) -> bool:
        """Whether `frames_to_send` would return anything."""
        return bool(self._scheduler)

    def frames_to_send(self, budget: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Frames as (channel, frame), until `budget` bytes are used up; the last one may exceed it.

        `size` bounds the payload of a DATA frame, in bytes.
        """
        while budget > 0 and (item := self._scheduler.next(size)) is not None:
            channel, frame, drained = item
            if drained is not None:
                self._events.append(events.StreamDrained(drained))
            budget -= len(frame)
            yield channel, frame

    def receive(self, channel: int, message: bytes) -> None:
        """Handle one frame that came on `channel`. Raises `RemoteProtocolError`, and closes the session."""
        if self.closed:
            return
        try:
            frame = frames.decode(message)
            self._check_order(channel, frame)
            if self._peer is not None and not self.established:
                self._establish()  # this frame shows that the client has our HELLO
            _HANDLERS[type(frame)](self, channel, frame)
        except RemoteProtocolError as error:
            self.close(GoAwayCode.PROTOCOL_ERROR, str(error))
            raise

    def _check_order(self, channel: int, frame: frames.Frame) -> None:
        if isinstance(frame, (frames.Resume, frames.Ack)):  # for `DurableLink`, which does not pass them on
            raise RemoteProtocolError(f"{frames.name(type(frame))} within a session")
        of_session = isinstance(frame, (frames.Hello, frames.Ping, frames.Pong, frames.GoAway))
        if of_session is not (channel == 0):
            raise RemoteProtocolError(f"{frames.name(type(frame))} on channel {channel}")
        if self._peer is None and not isinstance(frame, (frames.Hello, frames.GoAway)):
            raise RemoteProtocolError(f"{frames.name(type(frame))} before HELLO")
        if self._peer is not None and isinstance(frame, frames.Hello):
            raise RemoteProtocolError("second HELLO")

    # Session frames

    def _handle_hello(self, channel: int, frame: frames.Hello) -> None:
        version = min(NEWEST, frame.newest)
        if version < max(OLDEST, frame.oldest):
            here, there = ("client", "server") if self._client else ("server", "client")
            text = (
                f"the {here} speaks protocol versions {OLDEST} to {NEWEST}, "
                f"the {there} {frame.oldest} to {frame.newest}; upgrade the older of the two"
            )
            self.close(GoAwayCode.VERSION, text)
            raise RemoteProtocolError(text)
        self._peer = frame
        self._version = version
        self._lz4 = bool(frame.features & frames.LZ4)
        if self._client:
            self._establish()
        else:
            self._scheduler.session(frames.encode(self._hello))

    def _establish(self) -> None:
        assert self._peer is not None
        self._scheduler.established = True
        self._events.append(events.Established(self._peer.session, self._version))

    def _handle_ping(self, channel: int, frame: frames.Ping) -> None:
        self._check_backlog()
        self._scheduler.session(frames.encode(frames.Pong(frame.value)))

    def _handle_pong(self, channel: int, frame: frames.Pong) -> None:
        self._events.append(events.PongReceived(frame.value))

    def _handle_goaway(self, channel: int, frame: frames.GoAway) -> None:
        self._end(ResetCode.GOING_AWAY)
        self._events.append(events.GoAwayReceived(frames.go_away_code(frame.code), frame.text))

    # Stream frames

    def _handle_open(self, channel: int, frame: frames.Open) -> None:
        self._check_backlog()
        stream = self._streams.request(channel, frame, compress=self._lz4)
        kind = frame.kind & ~frames.PLAIN
        if self._streams.full:
            text = f"{self.limits.streams} connections are open"
            self._control(stream, frames.Refused(stream.id, Refusal.TOO_MANY_STREAMS, text))
        elif kind != frames.TCP:
            text = f"streams of kind {kind} are not supported, only of kind {frames.TCP} (TCP)"
            self._control(stream, frames.Refused(stream.id, Refusal.UNSUPPORTED, text))
        else:
            self._streams.admit(stream)
            self._events.append(events.StreamRequested(stream, Target(frame.host, frame.port)))

    def _handle_opened(self, channel: int, frame: frames.Opened) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.check_answer()
            stream.become(StreamState.OPEN)
            stream.sender.limit = max(stream.sender.limit, frame.window)
            self._scheduler.ready(stream)
            self._events.append(events.StreamOpened(stream))

    def _handle_refused(self, channel: int, frame: frames.Refused) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.check_answer()
            self._forget(stream, StreamRefused(frames.refusal(frame.code), frame.text))

    def _handle_data(self, channel: int, frame: frames.Data) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.check_data()
            stream.receiver.data(frame.offset, len(frame.payload))
            self._received(stream, frame.payload)

    def _handle_packed(self, channel: int, frame: frames.Packed) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.check_data()
            self._received(stream, stream.receiver.packed(frame))

    def _received(self, stream: Stream, data: bytes) -> None:
        if stream.receiver.ignored:
            self._discard(stream)
        else:
            self._events.append(events.DataReceived(stream, data))

    def _handle_fin(self, channel: int, frame: frames.Fin) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.check_data()
            stream.receiver.fin(frame.offset)
            if stream.receiver.ignored:
                self._discard(stream)
            else:
                self._events.append(events.EndReceived(stream))

    def _handle_reset(self, channel: int, frame: frames.Reset) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            self._forget(stream, StreamReset(frames.reset_code(frame.code)))

    def _handle_credit(self, channel: int, frame: frames.Credit) -> None:
        if (stream := self._streams.find(channel, frame.stream)) is not None:
            stream.sender.credited(frame.consumed, frame.limit)
            self._scheduler.ready(stream)
            self._close_if_done(stream)

    def _handle_blocked(self, channel: int, frame: frames.Blocked) -> None:
        stream = self._streams.find(channel, frame.stream)
        if stream is not None and stream.state is StreamState.OPEN:
            window = stream.receiver.window
            if frame.limit >= window.widened_at and window.is_kept_up_with:
                self._streams.widen(stream)
                self._scheduler.credit(stream)

    # Streams' ends

    def _consume(self, stream: Stream, length: int) -> None:
        if stream.receiver.consume(length):
            self._scheduler.credit(stream)
        self._close_if_done(stream)

    def _discard(self, stream: Stream) -> None:
        """Count the bytes of a stream that nobody reads as consumed.

        The peer needs the credit to finish: two sides that ignore each other would never end otherwise.
        """
        if stream.state is not StreamState.CLOSED:
            window = stream.receiver.window
            self._consume(stream, window.received - window.consumed)

    def _close_if_done(self, stream: Stream) -> None:
        if stream.state is StreamState.CLOSED:
            return
        if stream.done:
            self._forget(stream, None, tell=True)
        elif stream.receiver.ignored and stream.sender.state is SendState.DONE:
            self._send_reset(stream, ResetCode.CANCELLED)
            self._forget(stream, None, tell=True)

    def _forget(self, stream: Stream, error: StreamError | None = None, *, tell: bool = False) -> None:
        self._streams.forget(stream)
        if tell or error is not None:
            self._events.append(events.StreamClosed(stream, error))

    def _end(self, code: ResetCode) -> None:
        self.closed = True
        self._scheduler.clear()
        for stream in list(self.streams.values()):
            self._forget(stream, StreamReset(code))

    def _send_reset(self, stream: Stream, code: ResetCode) -> None:
        self._control(stream, frames.Reset(stream.id, code))
        self._scheduler.reset(stream)

    def _check_backlog(self) -> None:
        if self._scheduler.overfull:
            raise RemoteProtocolError("the peer asks for answers and does not take them")

    def _control(self, stream: Stream, frame: frames.Frame) -> None:
        self._scheduler.control(stream.channel, frames.encode(frame))

    @staticmethod
    def _expect(stream: Stream, state: StreamState) -> None:
        if stream.state is not state:
            raise LocalProtocolError(f"{stream} is not {state.value}")


_HANDLERS: dict[type[frames.Frame], Callable[..., None]] = {
    frames.Hello: Multiplexer._handle_hello,
    frames.Ping: Multiplexer._handle_ping,
    frames.Pong: Multiplexer._handle_pong,
    frames.GoAway: Multiplexer._handle_goaway,
    frames.Open: Multiplexer._handle_open,
    frames.Opened: Multiplexer._handle_opened,
    frames.Refused: Multiplexer._handle_refused,
    frames.Data: Multiplexer._handle_data,
    frames.Packed: Multiplexer._handle_packed,
    frames.Fin: Multiplexer._handle_fin,
    frames.Reset: Multiplexer._handle_reset,
    frames.Credit: Multiplexer._handle_credit,
    frames.Blocked: Multiplexer._handle_blocked,
}
