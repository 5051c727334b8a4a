"""Multiplexers over a simulated link, with an application at each end that records everything."""

from __future__ import annotations

from tests.simulation import MemoryLink, Simulation
from toxproxy.errors import LocalProtocolError, StreamError
from toxproxy.link.base import LinkEnd
from toxproxy.mux import (
    DataReceived,
    EndReceived,
    Event,
    Limits,
    Multiplexer,
    Stream,
    StreamClosed,
    StreamRequested,
)
from toxproxy.mux.frames import DATA_HEADER


class Peer:
    """One end: a multiplexer, its link, and an application.

    `unread` counts the bytes of each stream that the application has not consumed. Streams in `eager`
    are consumed at once.
    """

    def __init__(self, link: MemoryLink, *, client: bool, limits: Limits | None = None) -> None:
        self.link = link
        self.mux = Multiplexer(client=client, session=1, limits=limits, channels=link.channels)
        self.eager = False
        self.requested: list[Stream] = []
        self.streams: list[Stream] = []  # the streams that were accepted or opened here and have not ended
        self.written: dict[int, bytearray] = {}
        self.finished: set[int] = set()
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()  # the streams whose end has come
        self.unread: dict[int, int] = {}
        self.closed: dict[int, StreamError | None] = {}
        self.down: LinkEnd | None = None

    # LinkOwner

    def link_up(self) -> None:
        self.pump()

    def frame_received(self, channel: int, frame: bytes) -> None:
        self.mux.receive(channel, frame)
        self._listen()

    def link_ready(self) -> None:
        self.pump()

    def link_down(self, reason: LinkEnd) -> None:
        self.down = reason

    # The application

    def write(self, stream: Stream, data: bytes) -> None:
        self.mux.write(stream, data)
        self.written.setdefault(stream.id, bytearray()).extend(data)
        self.pump()

    def finish(self, stream: Stream) -> None:
        self.mux.finish(stream)
        self.finished.add(stream.id)
        self.pump()

    def consume(self, stream: Stream, most: int) -> None:
        length = min(most, self.unread.get(stream.id, 0))
        if length:
            self.unread[stream.id] -= length
            self.mux.consumed(stream, length)
            self.pump()

    def pump(self) -> None:
        """Send as much as the link takes."""
        size = self.link.frame_size - DATA_HEADER
        while self.mux.wants_to_send and (budget := self.link.budget()) > 0:
            for channel, frame in self.mux.frames_to_send(budget, size):
                self.link.send(channel, frame)
        self._listen()

    def _listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case StreamRequested(stream, _):
                self.requested.append(stream)
            case DataReceived(stream, data):
                self.got.setdefault(stream.id, bytearray()).extend(data)
                self._came(stream, len(data))
            case EndReceived(stream):
                self.ended.add(stream.id)
                self._came(stream, 1)
            case StreamClosed(stream, error):
                assert stream.id not in self.closed, "closed twice"
                self.closed[stream.id] = error
                self.forget(stream)

    def _came(self, stream: Stream, length: int) -> None:
        self.unread[stream.id] = self.unread.get(stream.id, 0) + length
        assert self.unread[stream.id] <= stream.receiver.window.size + 1, (
            "more has come than the window and the FIN"
        )
        if self.eager:
            self.consume(stream, length)

    def forget(self, stream: Stream) -> None:
        for streams in (self.requested, self.streams):
            if stream in streams:
                streams.remove(stream)
        self.unread.pop(stream.id, None)


def joined(
    simulation: Simulation, *, client: Limits | None = None, server: Limits | None = None
) -> tuple[Peer, Peer]:
    """A client and a server with an established session."""
    near = Peer(simulation.near, client=True, limits=client)
    far = Peer(simulation.far, client=False, limits=server)
    simulation.connect(near, far)
    simulation.rest()
    near.mux.ping(1)
    near.pump()
    simulation.rest()
    if not (near.mux.established and far.mux.established):
        raise LocalProtocolError("no session")
    return near, far
