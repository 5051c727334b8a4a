"""Targets: a whole `Multiplexer`, as client or server, with a hostile peer.

The application keeps to the rules. Its moves are read from the bytes, too.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.choices import Choices
from fuzz.judge import forbidden
from fuzz.peer import any_frame, damaged, packed
from fuzz.wire import decode_all
from toxproxy.address import Target, UdpTarget
from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, ResetCode, StreamRefused
from toxproxy.mux import frames
from toxproxy.mux.datagrams import _LEAST_WAITING, _MOST_HELD, MOST_DATAGRAM
from toxproxy.mux.events import (
    DatagramReceived,
    Established,
    StreamClosed,
    StreamReadable,
    StreamRequested,
)
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.receiver import _OVERHEAD  # that of datagrams, too
from toxproxy.mux.sender import SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.recovery.sent import PACKET_SIZE

LIMITS = Limits(
    early_window=64, least_window=64, window=256, most_window=1024, session_window=2048, streams=4, flows=2
)
LEAST_ROOM = PACKET_SIZE - 7 - 16 - 139  # bytes of a packet beside header, introduction and acknowledgement
_MOVES_MOST = 300
_ROOMS = (PACKET_SIZE - 7, LEAST_ROOM)
_ONE = 1500 + _OVERHEAD  # bytes of memory for one segment more than is allowed: it continues the stream


def client(data: bytes) -> None:
    """As client: whatever the peer sends is valid or the peer's error, and the limits hold."""
    Game(Choices(data), client=True).play()


def server(data: bytes) -> None:
    """As server: whatever the peer sends is valid or the peer's error, and the limits hold."""
    Game(Choices(data), client=False).play()


def accounts(mux: Multiplexer) -> None:
    """The memory that is counted is what there is, and no more is held than the limits allow."""
    held = mux.scheduler._waiting + mux.scheduler.datagrams._held + mux.assembly._held
    parts = [part for parts in mux.assembly._partial.values() for part in parts.values()]
    assert mux.assembly._held == sum(len(part) + _OVERHEAD for part in parts)
    assert mux.assembly._held <= _MOST_HELD
    flows = [stream.flow for stream in mux.streams.values() if stream.flow is not None]
    assert mux.flows == len(flows) <= mux.limits.flows
    assert mux.scheduler.datagrams._held == sum(flow.held for flow in flows) <= 2 * _LEAST_WAITING
    for stream in mux.streams.values():
        receiver = stream.receiver
        held += receiver.size + stream.sender._held
        assert receiver._held == sum(len(data) + _OVERHEAD for _, _, data, _ in receiver._ahead)
        assert receiver._held <= 2 * receiver.size + _ONE
        assert receiver.received <= receiver.limit + 1
        assert stream.sender.offset <= max(stream.sender.limit, 0)
    assert mux.memory.taken == held
    assert mux._opened == sum(mux.is_ours(stream.id) for stream in mux.streams.values())


class Game:
    """A multiplexer, its application and its peer."""

    def __init__(self, choices: Choices, *, client: bool) -> None:
        self.choices = choices
        self.mux = Multiplexer(client=client, session=1, limits=LIMITS)
        self.client = client
        self.streams: list[Stream] = []  # of the application
        self.ended: set[Stream] = set()  # whose end came
        self.requested: set[int] = set()  # ids of streams, by the peer
        self.written = 0  # bytes that the application has written
        self.causes = 2  # frames received or lost, and calls made: each may cause a few frames
        self.sent = 0  # frames that the multiplexer has sent
        self.flight: list[object] = []  # contents of packets
        self.peer_id = 2 if client else 1  # the id of the peer's next stream

    def play(self) -> None:
        moves = 0
        if self.choices.integer(7):
            self.receive(frames.encode(frames.Hello(2, 2, 2, frames.LZ4, 64, 4)))
        while self.choices and not self.mux.closed and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            self.check()
            self.causes += 1
            moves += 1
        while self.send(LEAST_ROOM):
            pass
        self.check()
        assert self.sent <= 4 * self.causes + self.written, "far more frames than causes"

    # The peer

    def receive(self, *messages: bytes) -> None:
        """The frames of one packet come."""
        self.causes += len(messages)
        wrong = forbidden(self.mux, messages[0]) if len(messages) == 1 else None
        try:
            self.mux.receive(b"header " + b"".join(messages), 7)
        except RemoteProtocolError as error:
            if wrong == "":
                raise AssertionError("a good frame was refused") from error
            self.listen()
            self.over(error)
        else:
            assert not wrong, wrong
            self.listen()

    def anything(self) -> None:
        self.receive(any_frame(self.choices, self.likely()))

    def several(self) -> None:
        """Several frames in one packet."""
        count = 2 + self.choices.integer(3)
        self.receive(*(any_frame(self.choices, self.likely()) for _ in range(count)))

    def likely(self) -> list[int]:
        """Numbers that are valid in some field."""
        numbers = [self.peer_id, 1, 2]
        for stream in self.mux.streams.values():
            numbers += (stream.id, stream.receiver.received, stream.sender.offset, stream.sender.limit)
        return numbers

    def ask(self) -> None:
        """The peer opens a stream."""
        kind = self.choices.pick((frames.TCP, frames.TCP | frames.PLAIN, 0x02))
        window = self.choices.pick((64, 0, 1000))
        number = self.choices.pick((self.peer_id, max(0, self.peer_id - 2), self.peer_id + 2))
        asked = frames.Open(number, kind, window, 1 + self.choices.integer(65534), "host.example")
        self.peer_id += 2
        self.receive(damaged(self.choices, frames.encode(asked)))

    def overtake(self) -> None:
        """A frame of a stream comes before its OPEN."""
        number = self.peer_id + 2 * self.choices.integer(3)
        early: tuple[frames.Frame, ...] = (
            frames.Data(number, self.choices.integer(60), bytes(1 + self.choices.integer(20))),
            frames.Fin(number, self.choices.integer(64)),
            frames.Reset(number, 1),
            frames.Credit(number, 0, self.choices.integer(500)),
            frames.Packed(number, 0, 40, packed(bytes(40))),
        )
        self.receive(damaged(self.choices, frames.encode(self.choices.pick(early))))

    def answer(self) -> None:
        """The peer answers a stream, or credits it."""
        if (stream := self.some(lambda _: True)) is None:
            return
        sender = stream.sender
        answers: tuple[frames.Frame, ...] = (
            frames.Opened(stream.id, 1000),
            frames.Credit(stream.id, sender.offset, sender.offset + self.choices.integer(500)),
            frames.Credit(stream.id, sender.offset + 1, sender.limit),
            frames.Refused(stream.id, self.choices.integer(20), "no"),
            frames.Reset(stream.id, self.choices.integer(5)),
        )
        self.receive(damaged(self.choices, frames.encode(self.choices.pick(answers))))

    def flow(self) -> None:
        """The peer sends what it may send: the next bytes, earlier ones, or some after a gap."""
        stream = self.some(lambda s: not s.receiver.finished)
        if stream is None:
            return
        if stream.flow is not None:
            self.datagram(stream)
            return
        receiver = stream.receiver
        offset = max(0, receiver.received + self.choices.pick((0, 0, 0, 1, 7, 40, -5, -300)))
        raw = bytes(max(0, min(receiver.limit - offset, 1 + self.choices.integer(300))))
        frame: frames.Frame = frames.Fin(stream.id, receiver.received)
        match self.choices.integer(3):
            case 0 if raw:
                frame = frames.Data(stream.id, offset, raw)
            case 1 if raw:
                frame = frames.Bulk(stream.id, offset, raw)
            case 2 if raw:
                frame = frames.Packed(stream.id, offset, len(raw), packed(raw))
        self.receive(damaged(self.choices, frames.encode(frame)))

    def datagram(self, stream: Stream) -> None:
        """The peer sends a datagram, or a part of one."""
        payload = self.choices.chunk(300)
        frame: frames.Frame = frames.Datagram(stream.id, payload)
        if payload and self.choices.integer(1):
            at = self.choices.pick((0, len(payload), 300, 60_000))
            size = self.choices.pick((at + len(payload), 65_535, 400))
            frame = frames.Part(stream.id, self.choices.integer(100), size, at, payload)
        self.receive(damaged(self.choices, frames.encode(frame)))

    def crumble(self) -> None:
        """Every second byte of all that a stream may get comes by itself."""
        stream = self.some(lambda s: s.receiver.fin_at < 0)
        if stream is not None:
            for offset in range(stream.receiver.received + 1, stream.receiver.limit, 2):
                if not self.mux.closed:
                    self.receive(frames.encode(frames.Data(stream.id, offset, b"\0")))

    # The application

    def some(self, fits: Callable[[Stream], bool]) -> Stream | None:
        streams = list(filter(fits, self.streams))
        return self.choices.pick(streams) if streams else None

    def listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            match event:
                case StreamRequested(stream, target):
                    assert stream.id not in self.requested, "the same stream twice"
                    self.requested.add(stream.id)
                    assert target.port
                    assert target.host
                    self.streams.append(stream)
                case DatagramReceived(stream, data):
                    assert stream.flow is not None
                    assert len(data) <= MOST_DATAGRAM
                case StreamReadable(stream):
                    assert stream.flow is None
                    assert stream.receiver.told
                case StreamClosed(stream, _):
                    self.streams.remove(stream)
                case Established():
                    assert self.mux.peer is not None

    def open(self) -> None:
        if self.mux.established:
            try:
                kind = self.choices.pick((Target, Target, UdpTarget))
                stream = self.mux.open(kind("host.example", 80), compress=bool(self.choices.integer(1)))
            except StreamRefused:
                return
            self.streams.append(stream)

    def accept(self) -> None:
        if (stream := self.some(lambda s: s.state is StreamState.REQUESTED)) is not None:
            if self.choices.integer(3):
                self.mux.accept(stream)
            else:
                self.mux.refuse(stream, Refusal.FAILED, "no")
                self.listen()

    def write(self) -> None:
        if (stream := self.some(lambda s: s.sender.state is SendState.READY)) is not None:
            data = (b"toxproxy" * 100)[: self.choices.integer(600)]
            self.written += len(data)
            if stream.flow is None:
                self.mux.write(stream, data)
            elif stream.state is not StreamState.REQUESTED:
                datagram = data * self.choices.pick((1, 3, 100))
                self.causes += len(datagram) // 1000
                self.mux.send(stream, datagram[:MOST_DATAGRAM], self.causes / 100)

    def take(self) -> None:
        """The application reads some bytes."""
        if (stream := self.some(lambda s: not s.receiver.ignored and s.flow is None)) is not None:
            data = self.mux.read(stream, 1 + self.choices.integer(300))
            assert data is None or stream not in self.ended
            if data == b"":
                self.ended.add(stream)
            self.listen()

    def end(self) -> None:
        if (stream := self.some(lambda _: True)) is None:
            return
        match 2 if stream.flow is not None else self.choices.integer(2):
            case 0:
                self.mux.finish(stream)
            case 1:
                self.mux.ignore(stream)
            case _:
                self.mux.reset(stream, ResetCode.CANCELLED)
        self.listen()

    # Recovery

    def send(self, room: int = 0) -> bool:
        """One packet leaves, if there is anything to send."""
        pieces: list[bytes | memoryview] = []
        room = room or self.choices.pick(_ROOMS)
        contents = self.mux.scheduler.fill(pieces, room, self.causes / 100)
        # A datagram waits for a packet to itself, once.
        if contents is None and self.mux.scheduler.wants_to_send:
            contents = self.mux.scheduler.fill(pieces, room, self.causes / 100)
        self.listen()
        if contents is None:
            assert not pieces
            assert not self.mux.scheduler.wants_to_send, "nothing that waits fits"
            return False
        message = b"".join(pieces)
        assert 0 < len(message) <= room
        self.sent += len(decode_all(message))
        self.flight.append(contents)
        return True

    def arrive(self) -> None:
        if self.flight:
            self.mux.scheduler.delivered(self.flight.pop(self.choices.integer(len(self.flight) - 1)))

    def lose(self) -> None:
        """A packet is lost, or is sent again to be sure; then it may arrive."""
        if self.flight:
            at = self.choices.integer(len(self.flight) - 1)
            contents = self.flight[at] if self.choices.integer(3) == 1 else self.flight.pop(at)
            self.causes += len(contents) if isinstance(contents, list) else 1
            self.mux.scheduler.lost(contents)

    # Invariants

    def check(self) -> None:
        streams = self.mux.streams
        assert set(streams.values()) == set(self.streams)
        theirs = [stream for stream in streams.values() if (stream.id % 2 == 1) is not self.client]
        assert len(theirs) <= LIMITS.streams
        size = 0
        for stream in self.streams:
            receiver = stream.receiver
            assert 0 <= len(receiver.ready) <= receiver.received - receiver.consumed <= receiver.size + 1
            size += receiver.size
        assert size <= LIMITS.session_window + LIMITS.least_window * (len(streams) + 1)
        accounts(self.mux)

    def over(self, error: RemoteProtocolError) -> None:
        """After the peer's error: every stream is closed, and nothing is sent or held any more."""
        assert self.mux.closed
        assert not self.mux.streams
        assert not self.streams
        assert error.code in (CloseCode.PROTOCOL_ERROR, CloseCode.VERSION)
        self.mux.receive(b"whatever", 0)
        assert self.mux.next_event() is None
        assert not self.mux.scheduler.wants_to_send
        assert not self.mux.memory.taken
        accounts(self.mux)
        for contents in self.flight:
            self.mux.scheduler.lost(contents)
            self.mux.scheduler.delivered(contents)


MOVES: tuple[Callable[[Game], object], ...] = (
    Game.anything,
    Game.anything,
    Game.several,
    Game.ask,
    Game.overtake,
    Game.answer,
    Game.answer,
    Game.flow,
    Game.flow,
    Game.flow,
    Game.crumble,
    Game.open,
    Game.accept,
    Game.write,
    Game.take,
    Game.end,
    Game.send,
    Game.send,
    Game.arrive,
    Game.lose,
)
