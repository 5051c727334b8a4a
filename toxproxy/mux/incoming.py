"""What the peer's frames do: each is judged in the state that it finds.

A packet may come again, of which some frames were handled before. So every frame may come twice, in any
order, and late.
"""

from __future__ import annotations

from collections.abc import Callable

from toxproxy.address import Target
from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, StreamRefused, StreamReset
from toxproxy.mux import events, frames
from toxproxy.mux.core import NEWEST, OLDEST, Core
from toxproxy.mux.frames import DATA, DATA_HEADER, DATA_TYPE
from toxproxy.mux.stream import Stream, StreamState


class Incoming:
    """Takes packets for a `Core`."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._streams = core.streams
        self._scheduler = core.scheduler
        self._events = core.events

    def receive(self, packet: bytes, start: int) -> bool:
        """See `Source.receive`."""
        at, end = start, len(packet)
        living = self._streams.living
        stored = True
        try:
            while at < end and not self._core.closed:
                if packet[at] == DATA_TYPE and end - at > DATA_HEADER:  # nearly always, so this is short
                    _, number, offset, length = DATA.unpack_from(packet, at)
                    stream = living.get(number)
                    body = at + DATA_HEADER
                    after = body + length
                    if stream is not None and body < after <= end:
                        at = after
                        receiver = stream.receiver
                        window = receiver.window
                        if not receiver.direct or offset != window.received:
                            if not self._take_data(stream, offset, packet[body:after]):
                                stored = False
                            continue
                        if offset + length > window.limit:
                            window.check(offset + length)
                        window.received += length
                        if (pieces := receiver.pieces) is not None:
                            pieces.append(packet[body:after])
                        else:
                            self._tell(stream, [packet[body:after]])
                        continue
                frame, at = frames.decode(packet, at)
                if not self._handle(frame):
                    stored = False
        except RemoteProtocolError as error:
            self._core.close(CloseCode.PROTOCOL_ERROR, str(error))
            raise
        return stored

    def _handle(self, frame: frames.Frame) -> bool:
        """Handle any frame; False if it cannot be handled yet."""
        if not self._scheduler.established and not isinstance(frame, frames.Hello):
            if self._core.peer is None:
                return False  # HELLO was lost, or overtaken
            self._establish()  # this frame shows that the client has our HELLO
        return _HANDLERS[type(frame)](self, frame)

    def _tell(self, stream: Stream, pieces: list[bytes]) -> None:
        """Report bytes. Until the owner takes the event, more are added to it."""
        stream.receiver.pieces = pieces
        self._events.append(events.DataReceived(stream, pieces))

    # Session frames

    def _handle_hello(self, frame: frames.Hello) -> bool:
        if self._core.peer is not None:
            if frame != self._core.peer:
                raise RemoteProtocolError("second HELLO, other than the first")
            return True
        if min(NEWEST, frame.newest) < max(OLDEST, frame.oldest):
            here, there = ("client", "server") if self._core.client else ("server", "client")
            text = (
                f"the {here} speaks protocol versions {OLDEST} to {NEWEST}, "
                f"the {there} {frame.oldest} to {frame.newest}; upgrade the older of the two"
            )
            self._core.close(CloseCode.VERSION, text)
            raise RemoteProtocolError(text)
        self._core.peer = frame
        self._streams.compress = bool(frame.features & frames.LZ4)
        if self._core.client:
            self._establish()
        else:
            self._scheduler.session(frames.encode(self._core.hello))
        return True

    def _establish(self) -> None:
        assert self._core.peer is not None
        self._scheduler.established = True
        version = min(NEWEST, self._core.peer.newest)
        self._events.append(events.Established(self._core.peer.session, version))

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
        if self._streams.full and stream.id not in self._streams.living:
            self._turn_away(
                stream, Refusal.TOO_MANY_STREAMS, f"{self._core.limits.streams} connections are open"
            )
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
        self._core.control(frames.Refused(stream.id, code, text))
        if stream.id in self._streams.living:
            self._core.forget(stream)

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
            self._core.forget(stream, StreamRefused(frames.refusal(frame.code), frame.text))
        return True

    def _handle_data(self, frame: frames.Data) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        return self._take_data(stream, frame.offset, frame.payload)

    def _take_data(self, stream: Stream, offset: int, payload: bytes) -> bool:
        """DATA came that does not just continue a stream."""
        self._opened(stream)
        receiver = stream.receiver
        stored = receiver.data(offset, payload)
        if offset <= receiver.window.received:
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
            self._core.discard(stream)
            return
        if fresh:
            if receiver.pieces is not None:
                receiver.pieces.extend(fresh)
            else:
                self._tell(stream, fresh)
        if ended:
            self._events.append(events.EndReceived(stream))

    def _handle_reset(self, frame: frames.Reset) -> bool:
        stream = self._streams.living.get(frame.stream)
        if stream is not None:
            told = stream.state is not StreamState.WAITING
            self._core.forget(stream, StreamReset(frames.reset_code(frame.code)) if told else None)
        elif not self._streams.was_used(frame.stream):
            self._streams.use(frame.stream)  # its OPEN may follow, and opens nothing
        return True

    def _handle_credit(self, frame: frames.Credit) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        stream.sender.credited(frame.consumed, frame.limit)
        self._scheduler.ready(stream)
        self._core.close_if_done(stream)
        return True

    def _handle_blocked(self, frame: frames.Blocked) -> bool:
        stream = self._find(frame.stream)
        if stream is None:
            return self._streams.was_used(frame.stream)
        window = stream.receiver.window
        if stream.state is StreamState.OPEN and frame.limit >= window.widened_at:
            self._core.widen(stream)
            stream.receiver.blocked = not window.is_kept_up_with
        return True

    def _find(self, number: int) -> Stream | None:
        """The stream of a frame that the peer sends only of a stream that it opened or accepted."""
        stream = self._streams.find(number)
        if stream is not None:
            self._opened(stream)
        return stream

    def _check_backlog(self) -> None:
        if self._scheduler.overfull:
            raise RemoteProtocolError("the peer asks for answers and does not take them")


_HANDLERS: dict[type[frames.Frame], Callable[..., bool]] = {
    frames.Hello: Incoming._handle_hello,
    frames.Ping: Incoming._handle_ping,
    frames.Pong: Incoming._handle_pong,
    frames.Open: Incoming._handle_open,
    frames.Opened: Incoming._handle_opened,
    frames.Refused: Incoming._handle_refused,
    frames.Data: Incoming._handle_data,
    frames.Packed: Incoming._handle_packed,
    frames.Fin: Incoming._handle_fin,
    frames.Reset: Incoming._handle_reset,
    frames.Credit: Incoming._handle_credit,
    frames.Blocked: Incoming._handle_blocked,
}
