"""One side of a session: what fills packets and takes what they brought, and events for the owner.

    owner                         Multiplexer                        recovery
      open, write, finish, ...  ->                -> fill(pieces, room, now)
      next_event()              <-                <- receive(packet, start)
                                                  <- delivered(contents), lost(contents)

No call waits, and nothing is sent on its own: after any call, take events until `next_event` returns
None, and let recovery fill packets while `wants_to_send`. Methods raise `LocalProtocolError` for a mistake
of the caller. `receive` raises `RemoteProtocolError` for a mistake of the peer; the session is closed then,
and `ending` has what the peer should be told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

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
from toxproxy.mux.contents import Contents
from toxproxy.mux.frames import DATA, DATA_HEADER, DATA_TYPE
from toxproxy.mux.limits import Limits
from toxproxy.mux.receiver import ReceiveState
from toxproxy.mux.scheduler import Piece, Scheduler
from toxproxy.mux.segment import Segment
from toxproxy.mux.sender import SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.streams import Streams
from toxproxy.mux.window import Allotment

OLDEST, NEWEST = 2, 2  # protocol versions spoken here


class Multiplexer:
    """One side of a session between two peers; a `recovery.source.Source`.

    The client sends HELLO first, and the server answers with its own. For the server the session is
    established with the next frame of the client, which shows that the client has its HELLO. `session` is
    this side's session id: 64 random bits.

    `ending` is None until the session has ended, then the code and the text with which it was closed;
    None for both after `lose`.
    """

    def __init__(
        self,
        *,
        client: bool,
        session: int,
        limits: Limits | None = None,
        memory: Allotment | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.memory = memory or Allotment(self.limits)
        self.closed = False
        self.ending: tuple[GoAwayCode, str] | None = None
        self._client = client
        window, streams = self.limits.early_window, self.limits.streams
        self._hello = frames.Hello(OLDEST, NEWEST, session, frames.LZ4, window, streams)
        self._peer: frames.Hello | None = None
        self._version = 0
        self._streams = Streams(self.limits, self.memory, client=client)
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
        stream = self._streams.open(self._peer, compress=self._streams.compress and compress)
        # A peer that does not understand compression does not understand the flag either.
        kind = frames.TCP | frames.PLAIN if self._streams.compress and not compress else frames.TCP
        window = stream.receiver.window.limit
        try:
            self._control(frames.Open(stream.id, kind, window, target.port, target.host), stream)
        except BaseException:  # the target cannot be encoded, so the peer will never hear of this stream
            self._streams.undo(stream)
            raise
        return stream

    def accept(self, stream: Stream) -> None:
        """Answer a requested stream with OPENED."""
        self._expect(stream, StreamState.REQUESTED)
        self._control(frames.Opened(stream.id, self._streams.accept(stream)), stream)
        if stream.receiver.state is ReceiveState.DONE:
            self._scheduler.credit(stream)
        self._scheduler.ready(stream)

    def refuse(self, stream: Stream, code: Refusal, text: str) -> None:
        """Answer a requested stream with REFUSED and forget it."""
        self._expect(stream, StreamState.REQUESTED)
        self._control(frames.Refused(stream.id, code, text))
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
        stream.receiver.direct = False
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
        """End the session: every stream is closed, and nothing is sent any more."""
        if not self.closed:
            self.ending = code, text
            self._end(ResetCode.GOING_AWAY)

    def lose(self) -> None:
        """There will be no more links: every stream is closed."""
        if not self.closed:
            self._end(ResetCode.LINK_LOST)

    def next_event(self) -> events.Event | None:
        """The next event, or None."""
        if not self._events:
            return None
        event = self._events.popleft()
        if type(event) is events.DataReceived:
            event.stream.receiver.pieces = None
        return event

    # Recovery's calls

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits. `fill` may find that it was acknowledged meanwhile, and return None."""
        return bool(self._scheduler)

    def fill(self, pieces: list[Piece], room: int, now: float) -> Contents | None:
        """See `Source.fill`. It may cause `StreamDrained`."""
        contents = self._scheduler.fill(pieces, room, now)
        if self._scheduler.drained:
            self._events.extend(map(events.StreamDrained, self._scheduler.drained))
            self._scheduler.drained.clear()
        return contents

    def delivered(self, contents: object) -> None:
        """See `Source.delivered`."""
        if type(contents) is Segment:
            contents.stream.sender.delivered(contents)
        elif type(contents) is list:
            for item in contents:
                if type(item) is Segment:
                    item.stream.sender.delivered(item)

    def lost(self, contents: object) -> None:
        """See `Source.lost`."""
        if self.closed:
            return
        if type(contents) is Segment:
            self._scheduler.lost(contents)
        elif type(contents) is list:
            for item in reversed(contents):  # frames go to the head of their queues
                self._scheduler.lost(item)

    def receive(self, packet: bytes, start: int) -> bool:
        """See `Source.receive`. Raises `RemoteProtocolError`, and closes the session."""
        at, end = start, len(packet)
        living = self._streams.living
        stored = True
        try:
            while at < end and not self.closed:
                if packet[at] == DATA_TYPE and end - at > DATA_HEADER:  # nearly always, and the next byte
                    _, number, offset, length = DATA.unpack_from(packet, at)
                    stream = living.get(number)
                    if stream is not None and stream.receiver.direct and length:
                        receiver = stream.receiver
                        window = receiver.window
                        body = at + DATA_HEADER
                        after = body + length
                        if offset == window.received and offset + length <= window.limit and after <= end:
                            window.received += length
                            if (pieces := receiver.pieces) is not None:
                                pieces.append(packet[body:after])
                            else:
                                self._tell(stream, [packet[body:after]])
                            at = after
                            continue
                frame, at = frames.decode(packet, at)
                if not self._handle(frame):
                    stored = False
        except RemoteProtocolError as error:
            self.close(GoAwayCode.PROTOCOL_ERROR, str(error))
            raise
        return stored

    def _handle(self, frame: frames.Frame) -> bool:
        """Handle any frame; False if it cannot be handled yet."""
        if not self.established and not isinstance(frame, frames.Hello):
            if self._peer is None:
                return False  # HELLO was lost, or overtaken
            self._establish()  # this frame shows that the client has our HELLO
        return _HANDLERS[type(frame)](self, frame)

    def _tell(self, stream: Stream, pieces: list[bytes]) -> None:
        """Report bytes. Until the owner takes the event, more are added to it."""
        stream.receiver.pieces = pieces
        self._events.append(events.DataReceived(stream, pieces))

    # Session frames

    def _handle_hello(self, frame: frames.Hello) -> bool:
        if self._peer is not None:
            if frame != self._peer:
                raise RemoteProtocolError("second HELLO, other than the first")
            return True
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
        self._streams.compress = bool(frame.features & frames.LZ4)
        if self._client:
            self._establish()
        else:
            self._scheduler.session(frames.encode(self._hello))
        return True

    def _establish(self) -> None:
        assert self._peer is not None
        self._scheduler.established = True
        self._events.append(events.Established(self._peer.session, self._version))

    def _handle_ping(self, frame: frames.Ping) -> bool:
        self._check_backlog()
        self._scheduler.session(frames.encode(frames.Pong(frame.value)))
        return True

    def _handle_pong(self, frame: frames.Pong) -> bool:
        self._events.append(events.PongReceived(frame.value))
        return True

    # Stream frames

    def _handle_open(self, frame: frames.Open) -> bool:
        self._check_backlog()
        stream = self._streams.request(frame)
        if stream is None:
            return True
        kind = frame.kind & ~frames.PLAIN
        if self._streams.full and stream.id not in self.streams:
            self._turn_away(stream, Refusal.TOO_MANY_STREAMS, f"{self.limits.streams} connections are open")
        elif kind != frames.TCP:
            text = f"streams of kind {kind} are not supported, only of kind {frames.TCP} (TCP)"
            self._turn_away(stream, Refusal.UNSUPPORTED, text)
        else:
            self._streams.admit(stream)
            self._events.append(events.StreamRequested(stream, Target(frame.host, frame.port)))
            stream.receiver.release()
            self._pass_on(stream)
        return True

    def _turn_away(self, stream: Stream, code: Refusal, text: str) -> None:
        """Refuse a stream that the owner does not hear of."""
        self._control(frames.Refused(stream.id, code, text))
        if stream.id in self.streams:
            self._forget(stream)

    def _handle_opened(self, frame: frames.Opened) -> bool:
        stream = self._streams.find_opened_here(frame.stream)
        if stream is not None and stream.said != frame:
            if stream.said is not None:
                raise RemoteProtocolError(f"second answer to OPEN of stream {stream.id}")
            stream.said = frame
            stream.sender.limit = max(stream.sender.limit, frame.window)
            self._opened(stream)
            self._scheduler.ready(stream)
        return True

    def _opened(self, stream: Stream) -> None:
        """OPENED came, or another frame that the peer sends only after it."""
        if stream.state is StreamState.OPENING:
            stream.become(StreamState.OPEN)
            self._events.append(events.StreamOpened(stream))

    def _handle_refused(self, frame: frames.Refused) -> bool:
        stream = self._streams.find_opened_here(frame.stream)
        if stream is not None:
            if stream.state is not StreamState.OPENING:
                raise RemoteProtocolError(f"second answer to OPEN of stream {stream.id}")
            self._forget(stream, StreamRefused(frames.refusal(frame.code), frame.text))
        return True

    def _handle_data(self, frame: frames.Data) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        stored = stream.receiver.data(frame.offset, frame.payload)
        self._pass_on(stream)
        return stored

    def _handle_packed(self, frame: frames.Packed) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        stored = stream.receiver.packed(frame)
        self._pass_on(stream)
        return stored

    def _handle_fin(self, frame: frames.Fin) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        stream.receiver.fin(frame.offset)
        self._pass_on(stream)
        return True

    def _pass_on(self, stream: Stream) -> None:
        """Report what has become contiguous."""
        receiver = stream.receiver
        fresh, ended = receiver.news()
        if receiver.ignored:
            self._discard(stream)
            return
        if fresh:
            if receiver.pieces is not None:
                receiver.pieces.extend(fresh)
            else:
                self._tell(stream, fresh)
        if ended:
            self._events.append(events.EndReceived(stream))

    def _handle_reset(self, frame: frames.Reset) -> bool:
        stream = self.streams.get(frame.stream)
        if stream is not None:
            told = stream.state is not StreamState.WAITING
            self._forget(stream, StreamReset(frames.reset_code(frame.code)) if told else None)
        elif not self._streams.was_used(frame.stream):
            self._streams.use(frame.stream)  # its OPEN may follow, and opens nothing
        return True

    def _handle_credit(self, frame: frames.Credit) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        stream.sender.credited(frame.consumed, frame.limit)
        self._scheduler.ready(stream)
        self._close_if_done(stream)
        return True

    def _handle_blocked(self, frame: frames.Blocked) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        window = stream.receiver.window
        if stream.state is StreamState.OPEN and frame.limit >= window.widened_at:
            self._widen(stream)
            stream.receiver.blocked = not window.is_kept_up_with
        return True

    def _find(self, number: int) -> Stream | None:
        """The stream of a frame that the peer sends only of a stream that it opened or accepted."""
        stream = self._streams.find(number)
        if stream is not None:
            self._opened(stream)
        return stream

    # Streams' ends

    def _consume(self, stream: Stream, length: int) -> None:
        if stream.receiver.consume(length):
            self._scheduler.credit(stream)
        if stream.receiver.blocked:  # these bytes may have come just before BLOCKED, in one batch
            self._widen(stream)
            stream.receiver.blocked = False
        self._close_if_done(stream)

    def _widen(self, stream: Stream) -> None:
        """The window is too small for the path, if the application has taken nearly everything."""
        if stream.receiver.window.is_kept_up_with:
            self._streams.widen(stream)
            self._scheduler.credit(stream)

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
            told = stream.state is not StreamState.WAITING
            self._forget(stream, StreamReset(code) if told else None)

    def _send_reset(self, stream: Stream, code: ResetCode) -> None:
        self._control(frames.Reset(stream.id, code))
        self._scheduler.reset(stream)

    def _check_backlog(self) -> None:
        if self._scheduler.overfull:
            raise RemoteProtocolError("the peer asks for answers and does not take them")

    def _control(self, frame: frames.Frame, stream: Stream | None = None) -> None:
        self._scheduler.control(frames.encode(frame), stream)

    @staticmethod
    def _expect(stream: Stream, state: StreamState) -> None:
        if stream.state is not state:
            raise LocalProtocolError(f"{stream} is not {state.value}")


_HANDLERS: dict[type[frames.Frame], Callable[..., bool]] = {
    frames.Hello: Multiplexer._handle_hello,
    frames.Ping: Multiplexer._handle_ping,
    frames.Pong: Multiplexer._handle_pong,
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
