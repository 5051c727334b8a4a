"""Target: two multiplexers that keep to the rules, and packets between them that do not come in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from fuzz.choices import Choices
from fuzz.multiplexer import LEAST_ROOM, accounts
from toxproxy.address import Target
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused
from toxproxy.mux.events import StreamClosed, StreamOpened, StreamReadable, StreamRequested
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.sender import SendState
from toxproxy.mux.stream import Stream, StreamState
from toxproxy.recovery.sent import PACKET_SIZE

_MOVES_MOST = 255
_ROUNDS_MOST = 3000  # until all has arrived, when nothing is lost any more
_ROOMS = (PACKET_SIZE - 7, LEAST_ROOM)
_LIMITS = (
    Limits(early_window=64, least_window=64, window=256, most_window=1024, session_window=4096, streams=4),
    Limits(early_window=0, least_window=9, window=9, most_window=40, session_window=64, streams=2),
    Limits(),
)


def streams(data: bytes) -> None:
    """Packets come in any order, twice or never: each byte is read once, in order, and no stream is left."""
    Pair(Choices(data)).play()


@dataclass(eq=False)
class Packet:
    """One that left and whose fate is not known."""

    contents: object
    frames: bytes
    stored: bool = False  # it arrived, and is acknowledged some time
    given_up: bool = False


class Side:
    """A multiplexer, and an application that notes all it wrote and read."""

    def __init__(self, *, client: bool, limits: Limits) -> None:
        self.mux = Multiplexer(client=client, session=1 + client, limits=limits)
        self.flight: list[Packet] = []
        self.streams: list[Stream] = []  # that have not ended
        self.written: dict[int, bytearray] = {}
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.closed: dict[int, StreamError | None] = {}

    def listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            match event:
                case StreamRequested(stream):
                    self.add(stream)
                case StreamReadable(stream):
                    assert stream in self.streams
                    assert stream.id not in self.ended
                case StreamOpened(stream):
                    assert stream.state is not StreamState.OPENING
                case StreamClosed(stream, error):
                    assert stream.id not in self.closed, "closed twice"
                    self.closed[stream.id] = error
                    self.streams.remove(stream)

    def add(self, stream: Stream) -> None:
        assert stream.id not in self.got, "the same stream twice"
        self.streams.append(stream)
        self.got[stream.id], self.written[stream.id] = bytearray(), bytearray()

    def take(self, stream: Stream, length: int) -> None:
        if stream.receiver.ignored or stream.state is StreamState.REQUESTED:
            return
        while length > 0 and (data := self.mux.read(stream, length)) is not None:
            assert stream.id not in self.ended
            self.got[stream.id] += data
            if not data:
                self.ended.add(stream.id)
            length -= len(data) or 1


class Pair:
    """Two sides, their packets, and the acts of both applications."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        limits = choices.pick(_LIMITS), choices.pick(_LIMITS)
        self.sides = tuple(Side(client=not at, limits=limits[at]) for at in range(2))
        self.now = 0.0
        self.cut: set[int] = set()  # streams that were refused, reset or not read to the end
        self.bytes = count()

    def play(self) -> None:
        if self.choices.integer(7):
            self.exchange()
        moves, most = 0, self.choices.integer(_MOVES_MOST)
        while self.choices and moves < most:
            side = self.choices.integer(1)
            self.choices.pick(MOVES)(self, self.sides[side], self.sides[1 - side])
            self.check()
            moves += 1
        self.curtain()
        self.arrived()

    def check(self) -> None:
        for side in self.sides:
            assert not side.mux.closed
            accounts(side.mux)
            for stream in side.streams:
                receiver = stream.receiver
                assert 0 <= receiver.received - receiver.consumed <= receiver.size + 1

    def arrived(self) -> None:
        for side, other in (self.sides, self.sides[::-1]):
            assert not side.mux.streams, "a stream is left"
            assert not side.mux.scheduler.wants_to_send, "a frame is left"
            assert side.mux.memory.taken == 0
            for number, written in side.written.items():
                got = other.got.get(number, bytearray())
                assert written.startswith(got), "other bytes, or in another order"
                if number not in self.cut and side.closed.get(number) is None:
                    assert got == written
                    assert number in other.ended
                    assert other.closed[number] is None

    # Packets

    def fill(self, side: Side, room: int) -> bool:
        pieces: list[bytes | memoryview] = []
        contents = side.mux.scheduler.fill(pieces, room, self.now)
        side.listen()
        if contents is None:
            assert not side.mux.scheduler.wants_to_send, "nothing that waits fits"
            return False
        message = b"".join(pieces)
        assert 0 < len(message) <= room
        side.flight.append(Packet(contents, message))
        return True

    def deliver(self, side: Side, other: Side, packet: Packet) -> None:
        if packet.given_up and packet.stored:
            return
        packet.stored = other.mux.receive(b"header " + packet.frames, 7) or packet.stored
        other.listen()

    def exchange(self, *, lossy: bool = False) -> None:
        """All that is sent arrives, until nothing more is. If `lossy`, some does not the first time."""
        for _ in range(_ROUNDS_MOST):
            busy = False
            for side, other in (self.sides, self.sides[::-1]):
                busy |= self.fill(side, _ROOMS[0])
                while side.flight:
                    busy = True
                    packet = side.flight.pop(0)
                    if not (lossy and self.choices and self.choices.integer(3) == 1):
                        self.deliver(side, other, packet)
                    if not packet.given_up:
                        scheduler = side.mux.scheduler
                        (scheduler.delivered if packet.stored else scheduler.lost)(packet.contents)
                        side.listen()
            if not busy:
                return
        raise AssertionError("it does not end")

    def send(self, side: Side, other: Side) -> None:
        room = self.choices.pick(_ROOMS)
        for _ in range(1 + self.choices.integer(3)):
            self.fill(side, room)

    def some(self, side: Side) -> Packet | None:
        return self.choices.pick(side.flight) if side.flight else None

    def arrive(self, side: Side, other: Side) -> None:
        """A packet comes, for the first time or again; with luck its acknowledgement does, too."""
        if (packet := self.some(side)) is not None:
            self.deliver(side, other, packet)
            if self.choices.integer(1):
                self.acknowledge(side, packet)

    def acknowledge(self, side: Side, packet: Packet) -> None:
        if packet.stored and not packet.given_up:
            side.flight.remove(packet)
            side.mux.scheduler.delivered(packet.contents)
            side.listen()

    def lose(self, side: Side, other: Side) -> None:
        """A packet is taken for lost. It may come all the same. Or its frames go again to be sure."""
        if (packet := self.some(side)) is None:
            return
        what = self.choices.integer(3)
        if not packet.given_up:
            side.mux.scheduler.lost(packet.contents)
            packet.given_up = what != 2
        if what == 0:
            side.flight.remove(packet)

    def wait(self, side: Side, other: Side) -> None:
        self.now += self.choices.pick((0.005, 0.03, 1.0))

    # Applications

    def open(self, side: Side, other: Side) -> None:
        if side.mux.established:
            try:
                stream = side.mux.open(Target("host.example", 80), compress=bool(self.choices.integer(1)))
            except StreamRefused:
                return
            side.add(stream)
            if self.choices.integer(1):
                self.write(side, other)

    def stream(self, side: Side) -> Stream | None:
        return self.choices.pick(side.streams) if side.streams else None

    def accept(self, side: Side, other: Side) -> None:
        if (stream := self.stream(side)) is not None and stream.state is StreamState.REQUESTED:
            if self.choices.integer(7) == 1:
                self.cut.add(stream.id)
                side.mux.refuse(stream, Refusal.FAILED, "no")
                side.listen()
            else:
                side.mux.accept(stream)

    def write(self, side: Side, other: Side) -> None:
        if (stream := self.stream(side)) is None or stream.sender.state is not SendState.READY:
            return
        words = self.choices.integer(200)
        if self.choices.integer(1):
            data = b"".join(next(self.bytes).to_bytes(4) for _ in range(words))
        else:
            data = (next(self.bytes).to_bytes(4) + b"toxproxy") * words
        side.written[stream.id] += data
        side.mux.write(stream, data)

    def finish(self, side: Side, other: Side) -> None:
        if (stream := self.stream(side)) is not None:
            side.mux.finish(stream)

    def cancel(self, side: Side, other: Side) -> None:
        """Reset a stream, or read no more of it."""
        if (stream := self.stream(side)) is None:
            return
        self.cut.add(stream.id)
        if self.choices.integer(1):
            side.mux.reset(stream, ResetCode.CANCELLED)
        else:
            side.mux.ignore(stream)
        side.listen()

    def take(self, side: Side, other: Side) -> None:
        if (stream := self.stream(side)) is not None:
            side.take(stream, self.choices.integer(700))
            side.listen()

    def curtain(self) -> None:
        """Accept, read and finish everything. After the last choice nothing is lost any more."""
        for _ in range(_ROUNDS_MOST):
            self.now += 1.0
            self.exchange(lossy=True)
            if not any(side.streams for side in self.sides):
                return
            for side in self.sides:
                for stream in list(side.streams):
                    if stream.state is StreamState.REQUESTED:
                        side.mux.accept(stream)
                    side.mux.finish(stream)
                    side.take(stream, 1 << 30)
                side.listen()
        raise AssertionError("a stream does not end")


MOVES: tuple[Callable[[Pair, Side, Side], None], ...] = (
    Pair.send,
    Pair.send,
    Pair.send,
    Pair.arrive,
    Pair.arrive,
    Pair.arrive,
    Pair.arrive,
    Pair.lose,
    Pair.lose,
    Pair.wait,
    Pair.open,
    Pair.accept,
    Pair.write,
    Pair.write,
    Pair.finish,
    Pair.cancel,
    Pair.take,
    Pair.take,
)
