"""Two multiplexers, and a wire between them that the test operates."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple, TypeVar

import pytest

from fuzz.wire import decode_all
from toxproxy.address import Target
from toxproxy.errors import CloseCode, RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.events import Event, StreamRequested
from toxproxy.mux.limits import Allotment, Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.sender import Sender
from toxproxy.mux.stream import Stream
from toxproxy.recovery.sent import PACKET_SIZE

E = TypeVar("E")

TARGET = Target("127.0.0.1", 8181)
ROOM = PACKET_SIZE - 4  # bytes that frames may take in a packet with nothing else
PLENTY = 1 << 40  # packets


class Packet(NamedTuple):
    """What one call of `fill` gave."""

    contents: object
    frames: bytes


class Side:
    """One multiplexer and its events."""

    peer: Side

    def __init__(self, mux: Multiplexer) -> None:
        self.mux = mux
        self.now = 0.0  # what `fill` is told
        self.events: list[Event] = []
        self.consumed: defaultdict[Stream, bytearray] = defaultdict(bytearray)

    def take(self, most: int = PLENTY, room: int = ROOM) -> list[Packet]:
        """Take the packets that the multiplexer fills now. The test may deliver them or not."""
        sent: list[Packet] = []
        while len(sent) < most and self.mux.scheduler.wants_to_send:
            pieces: list[bytes | memoryview] = []
            contents = self.mux.scheduler.fill(pieces, room, self.now)
            assert sum(map(len, pieces)) <= room
            assert (contents is None) is (not pieces)
            if contents is None:
                break
            sent.append(Packet(contents, b"".join(pieces)))
        self._listen()
        return sent

    def receive(self, packet: bytes) -> bool:
        """Deliver the frames of one packet. Its events are recorded even if it raises."""
        try:
            return self.mux.receive(b"header " + packet, 7)
        finally:
            self._listen()

    def hear(self, *made: frames.Frame) -> bool:
        """Deliver frames that the test has made, in one packet."""
        return self.receive(b"".join(map(frames.encode, made)))

    def deliver(self, sent: list[Packet]) -> None:
        """Deliver packets of this side to its peer, and their acknowledgements."""
        for packet in sent:
            if self.peer.receive(packet.frames):
                self.mux.scheduler.delivered(packet.contents)
            else:
                self.mux.scheduler.lost(packet.contents)

    def lose(self, sent: list[Packet]) -> None:
        """These packets are lost, and this side finds out."""
        for packet in sent:
            self.mux.scheduler.lost(packet.contents)

    def flush(self, room: int = ROOM) -> int:
        """Send everything to the peer. Returns the number of packets."""
        sent = self.take(room=room)
        self.deliver(sent)
        return len(sent)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type, oldest first."""
        self._listen()
        return [event for event in self.events if isinstance(event, kind)]

    def consume(self, stream: Stream, most: int = 1 << 40) -> None:
        """The application reads so much of what has come; the end counts as one."""
        while most > 0 and (data := self.mux.read(stream, most)) is not None:
            self.consumed[stream] += data
            most -= len(data) or 1

    def received(self, stream: Stream) -> bytes:
        """All bytes received on a stream so far."""
        return bytes(self.consumed[stream] + stream.receiver.ready)

    def _listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            self.events.append(event)


class Pair:
    """A client and a server, joined by a wire."""

    def __init__(
        self, *, client: Limits | None = None, server: Limits | None = None, established: bool = True
    ) -> None:
        self.client = Side(Multiplexer(client=True, session=1, limits=client))
        self.server = Side(Multiplexer(client=False, session=2, limits=server))
        self.client.peer, self.server.peer = self.server, self.client
        if established:
            self.exchange()
            self.client.events.clear()
            self.server.events.clear()

    def exchange(self) -> None:
        """Let both sides send until neither has anything to send."""
        while self.client.flush() + self.server.flush():
            pass

    def request(self) -> tuple[Stream, Stream]:
        """A stream that the client has opened and the server has not answered: both ends of it."""
        near = self.client.mux.open(TARGET)
        self.exchange()
        return near, self.server.of(StreamRequested)[-1].stream

    def connect(self) -> tuple[Stream, Stream]:
        """An open stream: the client's end and the server's."""
        near, far = self.request()
        self.server.mux.accept(far)
        self.exchange()
        return near, far


def a_sender(limit: int, *, compress: bool = False) -> Sender:
    """A sender with memory of its own."""
    return Sender(limit, Allotment(Limits()), compress=compress)


def a_receiver(size: int, *, compress: bool = False) -> Receiver:
    """A receiver with memory of its own."""
    return Receiver(size, Allotment(Limits()), compress=compress)


def decoded(sent: list[Packet]) -> list[frames.Frame]:
    """The frames that a side sent, BULK as DATA."""
    return [frame for packet in sent for frame in read(packet.frames)]


def read(packet: bytes) -> list[frames.Frame]:
    """The frames of a packet, BULK as DATA."""
    found = decode_all(packet)
    return [frames.Data(*frame) if isinstance(frame, frames.Bulk) else frame for frame in found]


def consume_all(side: Side, stream: Stream) -> None:
    """The application reads everything that has come, and the end."""
    side.consume(stream)


def is_over(pair: Pair) -> bool:
    """Whether neither side has a stream or anything to send."""
    sides = (pair.client.mux, pair.server.mux)
    return not any(side.streams or side.scheduler.wants_to_send for side in sides)


def breaks_the_protocol(side: Side, frame: frames.Frame, match: str) -> None:
    """Check that `frame` ends the session, and that the owner knows what to tell its sender."""
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        side.hear(frame)
    assert caught.value.code is CloseCode.PROTOCOL_ERROR
    assert side.mux.closed
    assert not side.mux.streams
    assert not side.mux.scheduler.wants_to_send
