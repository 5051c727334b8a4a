"""Targets: a whole `Multiplexer`, as client or server, with a hostile peer.

The application keeps to the rules. Its moves are read from the bytes, too.
"""

from __future__ import annotations

from collections.abc import Callable

from fuzz.choices import Choices
from fuzz.peer import any_frame, damaged, packed
from toxproxy.address import Target
from toxproxy.errors import GoAwayCode, Refusal, RemoteProtocolError, ResetCode, StreamRefused
from toxproxy.mux import (
    DataReceived,
    Established,
    GoAwayReceived,
    Limits,
    Multiplexer,
    Stream,
    StreamClosed,
    StreamRequested,
    frames,
)
from toxproxy.mux.stream import ReceiveState, SendState, StreamState

LIMITS = Limits(
    early_window=64, least_window=64, window=256, most_window=1024, session_window=2048, streams=4
)
CHANNELS = 4
_MOVES_MOST = 300
_SIZE = 300  # bytes of a DATA frame's payload: enough for compression to be tried
_PLENTY = 1 << 40


def client(data: bytes) -> None:
    """As client: whatever the peer sends is valid or the peer's error, and the limits hold."""
    Game(Choices(data), client=True).play()


def server(data: bytes) -> None:
    """As server: whatever the peer sends is valid or the peer's error, and the limits hold."""
    Game(Choices(data), client=False).play()


class Game:
    """A multiplexer, its application and its peer."""

    def __init__(self, choices: Choices, *, client: bool) -> None:
        self.choices = choices
        self.mux = Multiplexer(client=client, session=1, limits=LIMITS, channels=CHANNELS)
        self.client = client
        self.unread: dict[Stream, int] = {}  # bytes that the application has not read, of the open streams
        self.written = 0  # bytes that the application has written
        self.causes = 1  # frames received and calls made: each may cause a few frames
        self.sent = 0  # frames that the multiplexer has sent
        self.peer_id = 2 if client else 1  # the id of the peer's next stream

    def play(self) -> None:
        moves = 0
        if self.choices.integer(7):
            self.receive(0, frames.encode(frames.Hello(1, 1, 2, frames.LZ4, 64, 4)))
            self.receive(0, frames.encode(frames.Ping(0)))
        while self.choices and not self.mux.closed and moves < _MOVES_MOST:
            self.choices.pick(MOVES)(self)
            self.check()
            self.causes += 1
            moves += 1
        self.send(_PLENTY)
        self.check()
        assert self.sent <= 4 * self.causes + self.written, "far more frames than causes"

    # The peer

    def receive(self, channel: int, message: bytes) -> None:
        self.causes += 1
        was_closed = self.mux.closed
        forbidden = self.forbidden(channel, message)
        try:
            self.mux.receive(channel, message)
        except RemoteProtocolError as error:
            assert not was_closed, "the peer was blamed after the session had ended"
            self.listen()
            self.over(str(error))
        else:
            assert was_closed or not forbidden, forbidden
            self.listen()

    def forbidden(self, channel: int, message: bytes) -> str:
        """The rule of SPEC.md that a frame for an open stream breaks. "" if it breaks none."""
        try:
            frame = frames.decode(message)
        except RemoteProtocolError as error:
            return str(error)
        stream = self.mux.streams.get(getattr(frame, "stream", 0))
        match frame:
            case frames.Open(stream=number) if not number or number % 2 == self.client or stream is not None:
                return "an id that the peer must not use"
            case frames.Open():
                return ""
            case _ if stream is None:
                return ""
            case _ if stream.channel != channel:
                return "another channel than the stream's"
            case frames.Data() | frames.Packed() | frames.Fin():
                window, end = stream.receiver.window, frame.offset
                end += len(frame.payload) if isinstance(frame, frames.Data) else 0
                if frame.offset != window.received or end > window.limit + 1:
                    return "another offset than the next, or one beyond the limit"
                if stream.receiver.state is not ReceiveState.OPEN:
                    return "data after the end"
            case frames.Credit():
                finished = stream.sender.state in (SendState.FINISHED, SendState.DONE)
                if frame.consumed > stream.sender.offset + finished:
                    return "credit for what was not sent"
            case frames.Opened() | frames.Refused() if stream.state is not StreamState.OPENING:
                return "a second answer"
        return ""

    def anything(self) -> None:
        channel = self.choices.integer(CHANNELS - 1)
        self.receive(channel, any_frame(self.choices, self.likely()))

    def likely(self) -> list[int]:
        """Numbers that are valid in some field."""
        numbers = [self.peer_id, 1, 2]
        for stream in self.mux.streams.values():
            numbers += (stream.id, stream.receiver.window.received, stream.sender.offset, stream.sender.limit)
        return numbers

    def ask(self) -> None:
        """The peer opens a stream."""
        kind = self.choices.pick((frames.TCP, frames.TCP | frames.PLAIN, 0x02))
        window = self.choices.pick((64, 0, 1000))
        number = self.choices.pick((self.peer_id, max(0, self.peer_id - 2)))
        asked = frames.Open(number, kind, window, 1 + self.choices.integer(65534), "host.example")
        self.peer_id += 2
        channel = 1 + self.choices.integer(CHANNELS - 2)
        self.receive(channel, damaged(self.choices, frames.encode(asked)))

    def answer(self) -> None:
        """The peer answers a stream, credits it or says that it is blocked."""
        if (stream := self.some(lambda _: True)) is None:
            return
        sender, window = stream.sender, stream.receiver.window
        answers: tuple[frames.Frame, ...] = (
            frames.Opened(stream.id, 1000),
            frames.Credit(stream.id, sender.offset, sender.offset + self.choices.integer(500)),
            frames.Credit(stream.id, sender.offset + 1, sender.limit),
            frames.Blocked(stream.id, window.limit),
            frames.Refused(stream.id, self.choices.integer(20), "no"),
            frames.Reset(stream.id, self.choices.integer(5)),
        )
        said = frames.encode(self.choices.pick(answers))
        self.receive(stream.channel, damaged(self.choices, said))

    def flow(self) -> None:
        """The peer sends what it may send."""
        stream = self.some(lambda s: s.receiver.state is ReceiveState.OPEN)
        if stream is None:
            return
        window = stream.receiver.window
        room = window.limit - window.received
        raw = bytes(min(room, 1 + self.choices.integer(300)))
        frame: frames.Frame = frames.Fin(stream.id, window.received)
        match self.choices.integer(3):
            case 0 | 1 if raw:
                frame = frames.Data(stream.id, window.received, raw)
            case 2 if raw:
                frame = frames.Packed(stream.id, window.received, len(raw), packed(raw))
        self.receive(stream.channel, damaged(self.choices, frames.encode(frame)))

    # The application

    def some(self, fits: Callable[[Stream], bool]) -> Stream | None:
        streams = [stream for stream in self.mux.streams.values() if fits(stream)]
        return self.choices.pick(streams) if streams else None

    def listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            match event:
                case StreamRequested(stream, target):
                    assert stream not in self.unread
                    assert target.port
                    assert target.host
                    self.unread[stream] = 0
                case DataReceived(stream, data):
                    assert data or stream.receiver.ignored
                    self.unread[stream] += len(data)
                case StreamClosed(stream, _):
                    del self.unread[stream]
                case GoAwayReceived():
                    assert self.mux.closed
                    assert not self.unread
                case Established():
                    assert self.mux.identity is not None

    def open(self) -> None:
        if self.mux.established:
            try:
                stream = self.mux.open(Target("host.example", 80), compress=bool(self.choices.integer(1)))
            except StreamRefused:
                return
            self.unread[stream] = 0

    def accept(self) -> None:
        if (stream := self.some(lambda s: s.state is StreamState.REQUESTED)) is not None:
            if self.choices.integer(3):
                self.mux.accept(stream)
            else:
                self.mux.refuse(stream, Refusal.FAILED, "no")
                del self.unread[stream]

    def write(self) -> None:
        if (stream := self.some(lambda s: s.sender.state is SendState.READY)) is not None:
            data = (b"toxproxy" * 100)[: self.choices.integer(600)]
            self.written += len(data)
            self.mux.write(stream, data)

    def take(self) -> None:
        """The application reads some bytes."""
        if (stream := self.some(lambda s: not s.receiver.ignored)) is not None:
            length = self.choices.integer(self.unread[stream])
            self.unread[stream] -= length
            end = stream.receiver.state is ReceiveState.FINISHED and not self.unread[stream]
            self.mux.consumed(stream, length + end)
            self.listen()

    def end(self) -> None:
        if (stream := self.some(lambda _: True)) is None:
            return
        match self.choices.integer(2):
            case 0:
                self.mux.finish(stream)
            case 1:
                self.unread[stream] = 0
                self.mux.ignore(stream)
            case _:
                self.mux.reset(stream, ResetCode.CANCELLED)
                del self.unread[stream]
        self.listen()

    def send(self, budget: int | None = None) -> list[frames.Frame]:
        """The link takes frames."""
        said = []
        before = {stream: stream.sender.limit for stream in self.mux.streams.values()}
        for channel, message in self.mux.frames_to_send(budget or self.choices.integer(2000), _SIZE):
            assert channel < CHANNELS
            said.append(frames.decode(message))
        self.sent += len(said)
        self.listen()
        for stream, limit in before.items():
            assert stream.sender.offset <= limit, "sent beyond the peer's credit"
        return said

    # Invariants

    def check(self) -> None:
        streams = self.mux.streams
        assert set(streams.values()) == self.unread.keys()
        theirs = [stream for stream in streams.values() if (stream.id % 2 == 1) is not self.client]
        assert len(theirs) <= LIMITS.streams
        size = 0
        for stream, unread in self.unread.items():
            window = stream.receiver.window
            assert 0 <= unread <= window.received - window.consumed <= window.size + 1
            assert window.received <= window.limit + 1
            size += window.size
        assert size <= LIMITS.session_window + LIMITS.least_window * (len(streams) + 1)

    def over(self, why: str) -> None:
        """After the peer's error: every stream is closed, the peer is told why, and nothing else is sent."""
        assert self.mux.closed
        assert not self.mux.streams
        assert not self.unread
        last = self.send(_PLENTY)[-1]
        assert isinstance(last, frames.GoAway)
        assert last.code in (GoAwayCode.PROTOCOL_ERROR, GoAwayCode.VERSION)
        assert last.text
        assert why.startswith(last.text)
        self.mux.receive(0, b"whatever")
        self.mux.receive(1, frames.encode(frames.Data(1, 0, b"late")))
        assert self.mux.next_event() is None
        assert not self.mux.wants_to_send


MOVES: tuple[Callable[[Game], object], ...] = (
    Game.anything,
    Game.anything,
    Game.ask,
    Game.answer,
    Game.answer,
    Game.flow,
    Game.flow,
    Game.open,
    Game.accept,
    Game.write,
    Game.take,
    Game.end,
    Game.send,
)
