"""What the peer's frames do, in the state that they find. Each may come twice, in any order, and late."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toxproxy.address import OpenUdpTarget, Target, UdpTarget
from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, StreamRefused, StreamReset
from toxproxy.mux import events, frames
from toxproxy.mux.frames import BULK, BULK_HEADER, BULK_TYPE
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.recovery.packet import expanded

if TYPE_CHECKING:
    from toxproxy.mux.multiplexer import Multiplexer

OLDEST, NEWEST = 2, 2  # protocol versions spoken here
_TARGETS = {frames.TCP: Target, frames.UDP: UdpTarget, frames.OPEN_UDP: OpenUdpTarget}  # by kinds of streams


class IncompatibleError(RemoteProtocolError):
    """No protocol version is spoken on both sides."""

    code = CloseCode.VERSION


class Incoming:
    """Takes packets for a `Multiplexer`. `hello` is this side's."""

    def __init__(self, mux: Multiplexer, hello: frames.Hello, *, client: bool) -> None:
        self._mux = mux
        self._hello = hello
        self._client = client

    def receive(self, packet: bytes, start: int) -> bool:
        """See `Multiplexer.receive`."""
        at, end = start, len(packet)
        streams = self._mux.streams
        stored = True
        while at < end:
            if packet[at] == BULK_TYPE and (body := at + BULK_HEADER) < end:  # nearly always
                _, number, offset = BULK.unpack_from(packet, at)
                if (stream := streams.get(number)) is not None:
                    start = expanded(offset, stream.receiver.received)
                    return self._take(stream, start, start + end - body, packet[body:], False) and stored
            frame, at = frames.decode(packet, at)
            stored &= self._handle(frame)
        return stored

    def _handle(self, frame: frames.Frame) -> bool:
        """Handle any frame; False if it cannot be handled yet."""
        if isinstance(frame, frames.Hello):
            self._handle_hello(frame)
            return True
        if self._mux.peer is None:
            return False  # HELLO was lost, or overtaken
        if isinstance(frame, frames.Ping | frames.Open) and self._mux.scheduler.overfull:
            raise RemoteProtocolError("the peer asks for answers and does not take them")
        match frame:
            case frames.Ping(value):
                self._mux.scheduler.control(frames.encode(frames.Pong(value)))
            case frames.Pong(value):
                self._mux.events.append(events.PongReceived(value))
            case frames.Open():
                self._handle_open(frame)
            case frames.Opened() | frames.Refused():
                self._handle_answer(frame)
            case frames.Reset():
                self._handle_reset(frame)
            case frames.Data() | frames.Bulk() | frames.Packed() | frames.Fin() | frames.Credit():
                return self._handle_flow(frame)
            case frames.Datagram() | frames.Part():
                self._handle_datagram(frame)
        return True

    # The session

    def _handle_hello(self, frame: frames.Hello) -> None:
        if self._mux.peer is not None:
            if frame != self._mux.peer:
                raise RemoteProtocolError("second HELLO, other than the first")
            return
        if min(NEWEST, frame.newest) < max(OLDEST, frame.oldest):
            here, there = ("client", "server") if self._client else ("server", "client")
            raise IncompatibleError(
                f"the {here} speaks protocol versions {OLDEST} to {NEWEST}, "
                f"the {there} {frame.oldest} to {frame.newest}; upgrade the older of the two"
            )
        self._mux.peer = frame
        self._mux.events.append(events.Established(frame.session))
        if not self._client:
            self._mux.scheduler.control(frames.encode(self._hello))

    # A stream's beginning and its end

    def _handle_open(self, frame: frames.Open) -> None:
        mux, number = self._mux, frame.stream
        if not number or mux.is_ours(number):
            raise RemoteProtocolError(f"OPEN with stream id {number}, which is 0 or of the wrong parity")
        if (stream := mux.streams.get(number)) is not None and frame != stream.said:
            raise RemoteProtocolError(f"second OPEN with stream id {number}, other than the first")
        if mux.was_used(number):
            return
        mux.use(number)
        kind = frame.kind & ~frames.PLAIN
        target = _TARGETS.get(kind, Target)(frame.host, frame.port)
        if mux.full or (isinstance(target, UdpTarget) and mux.full_of_flows):
            most = mux.limits.streams if mux.full else mux.limits.flows
            text = f"{most} {'connections' if mux.full else 'flows of datagrams'} are open"
            mux.scheduler.control(frames.encode(frames.Refused(number, Refusal.TOO_MANY_STREAMS, text)))
            mux.events.append(events.StreamTurnedAway(target))
        elif kind not in _TARGETS:
            text = f"streams of kind {kind} are not supported, only of kind 1 (TCP), 2 and 3 (UDP)"
            mux.scheduler.control(frames.encode(frames.Refused(number, Refusal.UNSUPPORTED, text)))
        else:
            stream = mux.request(frame)
            self._mux.events.append(events.StreamRequested(stream, target))

    def _handle_answer(self, frame: frames.Opened | frames.Refused) -> None:
        stream = self._mux.streams.get(frame.stream)
        used = self._mux.was_used(frame.stream)
        if not self._mux.is_ours(frame.stream) and (stream is not None or not used):
            raise RemoteProtocolError(f"answer from the opener of stream {frame.stream}")
        if stream is None or stream.said == frame:
            return
        if isinstance(frame, frames.Opened) and stream.said is None:
            stream.said = frame
            stream.sender.limit = max(stream.sender.limit, frame.window)
            self._opened(stream)
            self._mux.scheduler.ready(stream)
        elif isinstance(frame, frames.Refused) and stream.state is StreamState.OPENING:
            self._mux.forget(stream, StreamRefused(frames.refusal(frame.code), frame.text))
        else:
            raise RemoteProtocolError(f"second answer to OPEN of stream {stream.id}")

    def _opened(self, stream: Stream) -> None:
        """OPENED came, or another frame that the peer sends only after it."""
        if stream.state is StreamState.OPENING:
            stream.state = StreamState.OPEN
            self._mux.events.append(events.StreamOpened(stream))

    def _handle_reset(self, frame: frames.Reset) -> None:
        stream = self._mux.streams.get(frame.stream)
        if stream is not None:
            self._mux.forget(stream, StreamReset(frames.reset_code(frame.code)))
        elif not self._mux.was_used(frame.stream):
            self._mux.use(frame.stream)  # its OPEN may follow, and opens nothing

    # Between them

    def _handle_flow(
        self, frame: frames.Data | frames.Bulk | frames.Packed | frames.Fin | frames.Credit
    ) -> bool:
        """A frame that the peer sends only of a stream that it opened or accepted.

        Where it comes before OPEN, its packet is not acknowledged: it must come again.
        """
        stream = self._mux.streams.get(frame.stream)
        if stream is None:
            return self._mux.was_used(frame.stream)
        if stream.flow is not None:
            raise RemoteProtocolError(f"{frames.name(type(frame))} frame for a flow of datagrams")
        self._opened(stream)
        match frame:
            case frames.Data(_, start, payload):
                return self._take(stream, start, start + len(payload), payload, False)
            case frames.Packed(_, start, length, block):
                return self._take(stream, start, start + length, block, True)
            case frames.Fin(_, offset):
                stream.receiver.fin(offset)
                self._report(stream)
            case frames.Credit(_, consumed, limit):
                stream.sender.credited(consumed, limit)
                self._mux.scheduler.ready(stream)
                self._mux.close_if_done(stream)
        return True

    def _handle_datagram(self, frame: frames.Datagram | frames.Part) -> None:
        """What comes before its OPEN, or after the end, is dropped: nothing comes again."""
        stream = self._mux.streams.get(frame.stream)
        if stream is None:
            self._mux.was_used(frame.stream)
            return
        if stream.flow is None:
            raise RemoteProtocolError(f"datagram for stream {stream.id}, which is no flow of datagrams")
        self._opened(stream)
        assembly = self._mux.assembly
        data = frame.payload if isinstance(frame, frames.Datagram) else assembly.add(frame)
        if data is not None:
            assembly.received += 1
            stream.flow.received_bytes += len(data)
            self._mux.events.append(events.DatagramReceived(stream, data))

    def _take(self, stream: Stream, start: int, end: int, data: bytes, packed: bool) -> bool:
        self._opened(stream)
        stored = stream.receiver.take(start, end, data, packed)
        if stream.receiver.used_up:  # judged again when the application has taken these bytes
            self._mux.widen(stream)
        self._report(stream)
        return stored

    def _report(self, stream: Stream) -> None:
        """Tell of what has become contiguous, unless the owner was told and has not read everything."""
        receiver = stream.receiver
        if receiver.ignored:
            self._mux.discard(stream)
        elif not (receiver.told or receiver.done) and (receiver.ready or receiver.finished):
            receiver.told = True
            self._mux.events.append(events.StreamReadable(stream))
