"""One side of a session: what fills packets and takes what they brought, and events for the owner.

    owner                         Multiplexer                        recovery
      open, write, finish, ...  ->                -> scheduler: fill(pieces, room, now)
      next_event()              <-                               delivered(contents), lost(contents)
                                                  <- receive(packet, start)

After any call, take events until `next_event` returns None, and let recovery fill packets while the
`scheduler` wants to send. Methods raise `LocalProtocolError` for a mistake of the caller, `receive`
`RemoteProtocolError` for one of the peer; then the session has ended.
"""

from __future__ import annotations

from collections import deque

from toxproxy.address import OpenUdpTarget, Target, UdpTarget
from toxproxy.errors import Refusal, RemoteProtocolError, ResetCode, StreamError, StreamRefused, StreamReset
from toxproxy.mux import events, frames
from toxproxy.mux.datagrams import Assembly, Flow
from toxproxy.mux.incoming import NEWEST, OLDEST, Incoming
from toxproxy.mux.limits import Allotment, Limits
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.scheduler import Scheduler
from toxproxy.mux.sender import Sender, SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.recovery.ranges import Ranges

MOST_GAPS = 1024  # in the ids that the peer has used; an honest one causes as many as it has OPENs under way


class Multiplexer:
    """One side of a session between two peers.

    `session` is this side's session id: 64 random bits. `streams` are those that have not ended, by id, and
    `flows` is how many of them are flows of datagrams. Ids are odd from the client and even from the server.
    None is used twice.
    """

    def __init__(self, *, client: bool, session: int, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.memory = Allotment(self.limits)
        self.peer: frames.Hello | None = None
        self.streams: dict[int, Stream] = {}
        self.closed = False
        self.events: deque[events.Event] = deque()
        self.scheduler = Scheduler(self.memory, self.events)
        self.assembly = Assembly(self.memory)
        self.flows = 0
        self._next_id = 1 if client else 2
        self._opened = 0  # how many streams of this side have not ended
        self._used = Ranges()  # halves of the ids that the peer has used
        self._sent = self._received = 0  # bytes of the streams that have ended
        window, most = self.limits.early_window, self.limits.streams
        features = frames.LZ4 | frames.DATAGRAMS | frames.LISTENS
        hello = frames.Hello(OLDEST, NEWEST, session, features, window, most)
        self._incoming = Incoming(self, hello, client=client)
        if client:
            self.scheduler.control(frames.encode(hello))

    # The owner's calls

    @property
    def established(self) -> bool:
        """Whether streams can be opened: the peer's HELLO came, and the session has not ended."""
        return self.peer is not None and not self.closed

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that streams have sent and received, before compression; those that have ended count too."""
        living = self.streams.values()
        sent = self._sent + sum(stream.carried[0] for stream in living)
        return sent, self._received + sum(stream.carried[1] for stream in living)

    def ping(self, value: int) -> None:
        """Ask the peer for a `PongReceived` with this value (64 bits). Raises `StreamRefused` as `open`."""
        self._established_peer()
        self.scheduler.control(frames.encode(frames.Ping(value)))

    def open(self, target: Target, *, compress: bool = True) -> Stream:
        """Open a stream to `target`, or a flow of datagrams if it is a `UdpTarget`.

        Bytes may be written at once, within the peer's early window, and datagrams be sent. Without
        `compress` neither side compresses what it sends. Raises `StreamRefused` where the session is not
        established, a side allows no more streams, or all ids of the session are used up.
        """
        peer = self._established_peer()
        for whose, most in (("this side", self.limits.streams), ("the other end", peer.streams)):
            if self._opened >= most:
                raise StreamRefused(Refusal.TOO_MANY_STREAMS, f"{whose} allows {most} connections at once")
        if self._next_id > frames.MAX_STREAM:
            text = "this session has opened as many connections as it can: restart the client"
            raise StreamRefused(Refusal.FAILED, text)
        udp = isinstance(target, UdpTarget)
        if (frames.DATAGRAMS if udp else frames.LISTENS if target.asks_to_listen else 0) & ~peer.features:
            what = "carries no UDP" if udp else "listens for no client"
            text = f"the server's version of toxproxy {what}: upgrade it"
            raise StreamRefused(Refusal.UNSUPPORTED, text)
        if udp and self.full_of_flows:
            text = f"this side allows {self.limits.flows} flows of datagrams at once"
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, text)
        kind = frames.OPEN_UDP if isinstance(target, OpenUdpTarget) else frames.UDP if udp else frames.TCP
        # A peer that does not understand compression does not understand the flag either.
        if self.compress and not (compress or udp):
            kind |= frames.PLAIN
        window = 0 if udp else self.memory.first()
        # It raises if no frame can carry the target.
        opening = frames.encode(frames.Open(self._next_id, kind, window, target.port, target.host))
        compress = compress and self.compress
        sender = Sender(peer.window, self.memory, compress=compress)
        receiver = Receiver(window, self.memory, compress=compress)
        stream = self._keep(self._next_id, StreamState.OPENING, sender, receiver, udp=udp)
        self._next_id += 2
        self._opened += 1
        self.scheduler.control(opening, stream)
        return stream

    def accept(self, stream: Stream, most: int = 1 << 62) -> bool:
        """Answer a requested stream with OPENED, and give it the window of a new stream, `most` at most.

        False if it has ended already.
        """
        if stream.state is not StreamState.REQUESTED:
            return False
        stream.state = StreamState.OPEN
        receiver, early = stream.receiver, stream.receiver.size
        if stream.flow is None:
            receiver.resize(0)  # the early window is part of the first one
            receiver.resize(max(early, min(self.memory.first(), most)))
        self.scheduler.control(frames.encode(frames.Opened(stream.id, receiver.grant())), stream)
        if receiver.done:
            self.scheduler.credit(stream)
        self.scheduler.ready(stream)
        return True

    def refuse(self, stream: Stream, code: Refusal, text: str) -> None:
        """Answer a requested stream with REFUSED and forget it, unless it has ended already."""
        if stream.state is StreamState.REQUESTED:
            self.scheduler.control(frames.encode(frames.Refused(stream.id, code, text)))
            self.forget(stream)

    def send(self, stream: Stream, datagram: bytes, now: float) -> None:
        """Queue a datagram, 65,535 bytes at most, on a flow. It may be dropped."""
        if stream.state is not StreamState.CLOSED:
            assert stream.flow is not None
            self.scheduler.datagrams.push(stream.id, stream.flow, datagram, now)

    def write(self, stream: Stream, data: bytes) -> bool:
        """Queue bytes on a stream; returns whether the writer should pause until `StreamDrained`."""
        stream.sender.write(data)
        self.scheduler.ready(stream)
        return stream.sender.full

    def finish(self, stream: Stream) -> None:
        """End this direction of a stream after everything written so far."""
        stream.sender.finish()
        self.scheduler.ready(stream)

    def read(self, stream: Stream, most: int) -> bytes | None:
        """The next bytes of a stream, `most` at most; once empty, at the end; None while there is nothing.

        The peer gets credit for them.
        """
        data = stream.receiver.read(most)
        if data is not None and stream.state is not StreamState.CLOSED:
            self._consumed(stream)
        return data

    def ignore(self, stream: Stream) -> None:
        """The application reads no more of this stream.

        The stream is reset if the peer has not ended its direction when it has taken all of this one.
        """
        if stream.state is not StreamState.CLOSED:
            stream.receiver.ignored = True
            self.discard(stream)

    def reset(self, stream: Stream, code: ResetCode, error: StreamError | None = None) -> None:
        """End a stream at once; queued bytes are dropped. Its `StreamClosed` has this `error`."""
        if stream.state is not StreamState.CLOSED:
            self.scheduler.control(frames.encode(frames.Reset(stream.id, code)))
            self.forget(stream, error)

    def end(self, code: ResetCode = ResetCode.GOING_AWAY) -> None:
        """End the session: every stream is reset, as its owner is told, and nothing is sent any more."""
        self.closed = True
        for stream in list(self.streams.values()):
            self.forget(stream, StreamReset(code))
        self.scheduler.clear()
        self.assembly = Assembly(self.memory)
        self.memory.end()

    def next_event(self) -> events.Event | None:
        """The next event, or None."""
        return self.events.popleft() if self.events else None

    def receive(self, packet: bytes, start: int) -> bool:
        """Handle the frames from `start` to the end of a packet, which may come more than once.

        False if one of them could not be stored. Raises `RemoteProtocolError`, and ends the session.
        """
        try:
            return self.closed or self._incoming.receive(packet, start)
        except RemoteProtocolError:
            self.end()
            raise

    # For what comes from the peer

    @property
    def compress(self) -> bool:
        """Whether both sides understand compression."""
        return self.peer is not None and bool(self.peer.features & frames.LZ4)

    @property
    def full(self) -> bool:
        """Whether the peer has as many streams as it may."""
        return len(self.streams) - self._opened >= self.limits.streams

    @property
    def full_of_flows(self) -> bool:
        """Whether there are as many flows as there may be."""
        return self.flows >= self.limits.flows

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

    def request(self, frame: frames.Open) -> Stream:
        """OPEN came: a new stream of the peer's."""
        udp = frame.kind & ~frames.PLAIN in (frames.UDP, frames.OPEN_UDP)
        packs = self.compress and not frame.kind & frames.PLAIN
        sender = Sender(frame.window, self.memory, compress=packs)
        receiver = Receiver(0 if udp else self.limits.early_window, self.memory, compress=self.compress)
        stream = self._keep(frame.stream, StreamState.REQUESTED, sender, receiver, udp=udp)
        stream.said = frame
        return stream

    def widen(self, stream: Stream) -> None:
        """The peer has used up a window: enlarge it if the application keeps up, and tell the peer."""
        receiver = stream.receiver
        if stream.state is StreamState.OPEN and receiver.is_kept_up_with:
            receiver.resize(self.memory.wider(receiver.size))
            self.scheduler.credit(stream)

    def discard(self, stream: Stream) -> None:
        """Count the bytes of a stream that nobody reads as consumed: the peer needs the credit to finish."""
        stream.receiver.discard()
        self._consumed(stream)

    def close_if_done(self, stream: Stream) -> None:
        """Forget a stream whose directions are done, and reset one that is done here and ignored."""
        if stream.done:
            self.forget(stream)
        elif stream.receiver.ignored and stream.sender.state is SendState.DONE:
            self.reset(stream, ResetCode.CANCELLED)

    def forget(self, stream: Stream, error: StreamError | None = None) -> None:
        """The stream has ended."""
        self.events.append(events.StreamClosed(stream, error))
        del self.streams[stream.id]
        self._opened -= self.is_ours(stream.id)
        if stream.flow is not None:
            self.flows -= 1
            self.scheduler.datagrams.end(stream.flow)
        self._sent += stream.carried[0]
        self._received += stream.carried[1]
        stream.complete = stream.done
        stream.state = StreamState.CLOSED
        stream.sender.drop()
        stream.receiver.drop()

    def _consumed(self, stream: Stream) -> None:
        if stream.receiver.due:
            self.scheduler.credit(stream)
        if stream.receiver.used_up:
            self.widen(stream)
            stream.receiver.used_up = False
        self.close_if_done(stream)

    def _established_peer(self) -> frames.Hello:
        if self.peer is None or self.closed:
            raise StreamRefused(Refusal.OFFLINE, "the peer is not connected")
        return self.peer

    def _keep(
        self, number: int, state: StreamState, sender: Sender, receiver: Receiver, *, udp: bool
    ) -> Stream:
        stream = self.streams[number] = Stream(number, state, sender, receiver, flow=Flow() if udp else None)
        self.flows += udp
        return stream
