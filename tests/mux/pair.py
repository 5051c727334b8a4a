"""Two multiplexers, and a wire between them that the test operates."""

from __future__ import annotations

from typing import TypeVar

import pytest

from toxproxy.address import Target
from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import (
    DataReceived,
    Event,
    GoAwayReceived,
    Limits,
    Multiplexer,
    Stream,
    StreamRequested,
    frames,
)

E = TypeVar("E")

TARGET = Target("127.0.0.1", 8181)
SIZE = 1200  # bytes: the payload of a DATA frame
PLENTY = 1 << 40  # bytes: a budget without an end


class Side:
    """One multiplexer and its events."""

    peer: Side

    def __init__(self, mux: Multiplexer) -> None:
        self.mux = mux
        self.events: list[Event] = []

    def take(self, budget: int = PLENTY, size: int = SIZE) -> list[tuple[int, bytes]]:
        """Take the messages that the multiplexer sends now. The test may deliver them or not."""
        sent = list(self.mux.frames_to_send(budget, size))
        self._listen()
        return sent

    def receive(self, channel: int, message: bytes) -> None:
        """Deliver one message. Its events are recorded even if it raises."""
        try:
            self.mux.receive(channel, message)
        finally:
            self._listen()

    def hear(self, channel: int, frame: frames.Frame) -> None:
        """Deliver a frame that the test has made."""
        self.receive(channel, frames.encode(frame))

    def flush(self) -> int:
        """Send everything to the peer. Returns the number of messages."""
        sent = self.take()
        for channel, message in sent:
            self.peer.receive(channel, message)
        return len(sent)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one type, oldest first."""
        self._listen()
        return [event for event in self.events if isinstance(event, kind)]

    def received(self, stream: Stream) -> bytes:
        """All bytes received on a stream so far."""
        return b"".join(data for which, data in self.of(DataReceived) if which is stream)

    def _listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            self.events.append(event)


class Pair:
    """A client and a server, joined by a wire."""

    def __init__(
        self,
        *,
        client: Limits | None = None,
        server: Limits | None = None,
        channels: int = 255,
        established: bool = True,
    ) -> None:
        self.client = Side(Multiplexer(client=True, session=1, limits=client, channels=channels))
        self.server = Side(Multiplexer(client=False, session=2, limits=server, channels=channels))
        self.client.peer, self.server.peer = self.server, self.client
        if established:
            self.exchange()
            self.client.mux.ping(0)  # the server's session is established with the client's second frame
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


def decoded(sent: list[tuple[int, bytes]]) -> list[frames.Frame]:
    """The frames that a side sent, without the channels."""
    return [frames.decode(message) for _, message in sent]


def consume_all(side: Side, stream: Stream) -> None:
    """The application reads everything that has come, and the end."""
    window = stream.receiver.window
    side.mux.consumed(stream, window.received - window.consumed)


def is_over(pair: Pair) -> bool:
    """Whether neither side has a stream or anything to send."""
    sides = (pair.client.mux, pair.server.mux)
    return not any(side.streams or side.wants_to_send for side in sides)


def breaks_the_protocol(pair: Pair, side: Side, channel: int, frame: frames.Frame, match: str) -> None:
    """Check that `frame` ends the session and that its sender is told why."""
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        side.hear(channel, frame)
    side.flush()
    [gone] = side.peer.of(GoAwayReceived)
    assert gone.text == str(caught.value)
    assert is_over(pair)
