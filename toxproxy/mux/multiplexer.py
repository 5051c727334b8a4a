"""One side of a session: what fills packets and takes what they brought, and events for the owner.

    owner                         Multiplexer                        recovery
      open, write, finish, ...  ->                -> fill(pieces, room, now)
      next_event()              <-                <- receive(packet, start)
                                                  <- delivered(contents), lost(contents)

After any call, take events until `next_event` returns None, and let recovery fill packets while
`wants_to_send`. Methods raise `LocalProtocolError` for a mistake of the caller, `receive`
`RemoteProtocolError` for one of the peer; then the session has ended.
"""

from __future__ import annotations

from typing import cast

from toxproxy.address import Target
from toxproxy.errors import LocalProtocolError, Refusal, RemoteProtocolError, ResetCode
from toxproxy.mux import events, frames
from toxproxy.mux.incoming import NEWEST, OLDEST, Incoming
from toxproxy.mux.limits import Limits
from toxproxy.mux.scheduler import Contents, Piece
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.streams import Streams


class Multiplexer:
    """One side of a session between two peers; a `recovery.source.Source`.

    `session` is this side's session id: 64 random bits.
    """

    def __init__(self, *, client: bool, session: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.closed = False
        window, streams = self.limits.early_window, self.limits.streams
        hello = frames.Hello(OLDEST, NEWEST, session, frames.LZ4, window, streams)
        self._streams = Streams(self.limits, client=client)
        self._scheduler, self._events = self._streams.scheduler, self._streams.events
        self._incoming = Incoming(self._streams, hello, client=client)
        self.memory = self._streams.memory
        if client:
            self._scheduler.control(frames.encode(hello))

    # The owner's calls

    @property
    def established(self) -> bool:
        """Whether streams can be opened: the peer's HELLO came."""
        return self._streams.peer is not None

    @property
    def streams(self) -> dict[int, Stream]:
        """The streams that have not ended, by id."""
        return self._streams.living

    def open(self, target: Target, *, compress: bool = True) -> Stream:
        """Open a stream to `target`. Bytes may be written at once, within the peer's early window.

        Without `compress` neither side compresses what it sends. Raises `StreamRefused` where a side allows
        no more streams, or all ids of the session are used up.
        """
        if self.closed or not self.established:
            raise LocalProtocolError("no stream without an established session")
        return self._streams.open(target, compress=compress)

    def accept(self, stream: Stream) -> None:
        """Answer a requested stream with OPENED."""
        _expect_request(stream)
        self._streams.accept(stream)

    def refuse(self, stream: Stream, code: Refusal, text: str) -> None:
        """Answer a requested stream with REFUSED and forget it."""
        _expect_request(stream)
        self._streams.refuse(stream.id, code, text)
        self._streams.forget(stream)

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
            self._streams.consume(stream, length)

    def ignore(self, stream: Stream) -> None:
        """The application reads no more of this stream.

        The stream is reset if the peer has not ended its direction when it has taken all of this one.
        """
        if stream.state is not StreamState.CLOSED:
            stream.receiver.ignored = True
            self._streams.discard(stream)

    def reset(self, stream: Stream, code: ResetCode) -> None:
        """End a stream at once; queued bytes are dropped. No `StreamClosed` follows."""
        if stream.state is not StreamState.CLOSED:
            self._streams.reset(stream, code)

    def end(self, code: ResetCode = ResetCode.GOING_AWAY) -> None:
        """End the session: every stream is reset, as its owner is told, and nothing is sent any more."""
        if not self.closed:
            self.closed = True
            self._streams.end(code)

    def next_event(self) -> events.Event | None:
        """The next event, or None."""
        event = self._events.popleft() if self._events else None
        if type(event) is events.DataReceived:
            event.stream.receiver.pieces, event.stream.receiver.told = [], False
        return event

    # Recovery's calls

    @property
    def wants_to_send(self) -> bool:
        """Whether something waits. `fill` may find that it is not needed any more, and return None."""
        return bool(self._scheduler)

    def fill(self, pieces: list[Piece], room: int, now: float) -> Contents | None:
        """See `Source.fill`. It may cause `StreamDrained`."""
        return self._scheduler.fill(pieces, room, now)

    def delivered(self, contents: object) -> None:
        """See `Source.delivered`."""
        self._scheduler.delivered(cast(Contents, contents))

    def lost(self, contents: object) -> None:
        """See `Source.lost`."""
        if not self.closed:
            self._scheduler.lost(cast(Contents, contents))

    def receive(self, packet: bytes, start: int) -> bool:
        """See `Source.receive`. Raises `RemoteProtocolError`, and ends the session."""
        try:
            return self.closed or self._incoming.receive(packet, start)
        except RemoteProtocolError:
            self.end()
            raise


def _expect_request(stream: Stream) -> None:
    if stream.state is not StreamState.REQUESTED:
        raise LocalProtocolError(f"{stream} is not requested")
