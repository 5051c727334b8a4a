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

from toxproxy.address import Target
from toxproxy.errors import (
    CloseCode,
    LocalProtocolError,
    Refusal,
    ResetCode,
)
from toxproxy.mux import events, frames
from toxproxy.mux.contents import Contents
from toxproxy.mux.core import Core
from toxproxy.mux.incoming import Incoming
from toxproxy.mux.limits import Limits
from toxproxy.mux.receiver import ReceiveState
from toxproxy.mux.scheduler import Piece
from toxproxy.mux.segment import Segment
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.mux.window import Allotment


class Multiplexer:
    """One side of a session between two peers; a `recovery.source.Source`.

    The client sends HELLO first, and the server answers with its own. For the server the session is
    established with the next frame of the client, which shows that the client has its HELLO. `session` is
    this side's session id: 64 random bits.
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
        core = Core(client=client, session=session, limits=self.limits, memory=self.memory)
        self._core = core
        self._incoming = Incoming(core)
        self._streams, self._scheduler, self._events = core.streams, core.scheduler, core.events
        if client:
            self._scheduler.session(frames.encode(core.hello))

    # The owner's calls

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._core.closed

    @property
    def ending(self) -> tuple[CloseCode, str] | None:
        """The code and the text with which the session was closed; None before that, and after `lose`."""
        return self._core.ending

    @property
    def established(self) -> bool:
        """Whether streams can be opened: both sides have sent HELLO."""
        return self._scheduler.established

    @property
    def identity(self) -> tuple[int, int] | None:
        """The client's and the server's session id, once both are known."""
        core = self._core
        if core.peer is None:
            return None
        ids = core.hello.session, core.peer.session
        return ids if core.client else ids[::-1]

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
        if self.closed or self._core.peer is None or not self.established:
            raise LocalProtocolError("no stream can be opened without an established session")
        stream = self._streams.open(self._core.peer, compress=self._streams.compress and compress)
        # A peer that does not understand compression does not understand the flag either.
        kind = frames.TCP | frames.PLAIN if self._streams.compress and not compress else frames.TCP
        window = stream.receiver.window.limit
        try:
            self._core.control(frames.Open(stream.id, kind, window, target.port, target.host), stream)
        except BaseException:  # the target cannot be encoded, so the peer will never hear of this stream
            self._streams.undo(stream)
            raise
        return stream

    def accept(self, stream: Stream) -> None:
        """Answer a requested stream with OPENED."""
        self._expect(stream, StreamState.REQUESTED)
        self._core.control(frames.Opened(stream.id, self._streams.accept(stream)), stream)
        if stream.receiver.state is ReceiveState.DONE:
            self._scheduler.credit(stream)
        self._scheduler.ready(stream)

    def refuse(self, stream: Stream, code: Refusal, text: str) -> None:
        """Answer a requested stream with REFUSED and forget it."""
        self._expect(stream, StreamState.REQUESTED)
        self._core.control(frames.Refused(stream.id, code, text))
        self._core.forget(stream)

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
            self._core.consume(stream, length)

    def ignore(self, stream: Stream) -> None:
        """The application reads no more of this stream.

        Bytes that still come are dropped. The stream is reset when the peer has taken everything
        sent from here and has not ended its own direction by then.
        """
        stream.receiver.ignored = True
        stream.receiver.direct = False
        self._core.discard(stream)

    def reset(self, stream: Stream, code: ResetCode) -> None:
        """End a stream at once; queued bytes are dropped. No `StreamClosed` follows."""
        if stream.state is not StreamState.CLOSED:
            self._core.send_reset(stream, code)
            self._core.forget(stream)

    def ping(self, value: int) -> None:
        """Ask the peer for a `PongReceived` with this value (64 bits)."""
        if self.closed or self._core.peer is None:
            raise LocalProtocolError("no ping without a session")
        self._scheduler.session(frames.encode(frames.Ping(value)))

    def close(self, code: CloseCode, text: str = "") -> None:
        """End the session: every stream is closed, and nothing is sent any more."""
        self._core.close(code, text)

    def lose(self) -> None:
        """There will be no more links: every stream is closed."""
        if not self.closed:
            self._core.end(ResetCode.LINK_LOST)

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
            for item in contents:
                self._scheduler.lost(item)

    def receive(self, packet: bytes, start: int) -> bool:
        """See `Source.receive`. Raises `RemoteProtocolError`, and closes the session."""
        return self._incoming.receive(packet, start)

    @staticmethod
    def _expect(stream: Stream, state: StreamState) -> None:
        if stream.state is not state:
            raise LocalProtocolError(f"{stream} is not {state.value}")
