"""Multiplexers that exchange packets in virtual time, over a path that loses, doubles and reorders them.

There is no event loop: the test advances the clock. Everything is seeded, so that every run can be
repeated. At each end an application records everything. Recovery is as simple as can be: it is told which
packets arrive, and finds out about the others after a while. Some that arrive it takes for lost.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.errors import LocalProtocolError, StreamError
from toxproxy.mux.events import Event, StreamClosed, StreamReadable, StreamRequested
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.stream import Stream

from .pair import ROOM


@dataclass(frozen=True, slots=True)
class Path:
    """The path between two ends. Both directions have these properties."""

    delay: float = 0.0  # seconds
    loss: float = 0.0  # the share of packets that is lost, from 0 to below 1
    rate: float = math.inf  # bytes per second
    reordering: float = 0.0  # the share that comes up to three delays late
    duplication: float = 0.0  # the share that comes twice
    mistakes: float = 0.0  # the share of packets that arrive and are taken for lost


class Simulation:
    """The clock of two ends, in seconds from 0, and what is due.

    At most `window` bytes are in flight from each end, and a packet more. The loss of a packet is found out
    `timeout` seconds after its acknowledgement was due. Exceptions of a multiplexer reach the caller of
    `advance`.
    """

    def __init__(
        self,
        seed: int,
        path: Path | None = None,
        *,
        window: int = 1024 * 1024,
        timeout: float = 0.2,
        room: int = ROOM,
    ) -> None:
        self.now = 0.0
        self.path = path or Path()
        self.window = window
        self.timeout = timeout
        self.room = room
        self.random = random.Random(seed)
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0  # keeps the order of actions that are due at the same time

    @property
    def next_due(self) -> float | None:
        """The time of the next action. None if nothing is planned."""
        return self._agenda[0][0] if self._agenda else None

    def plan(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` when the clock reaches `when`."""
        self._count += 1
        heapq.heappush(self._agenda, (when, self._count, action))

    def advance(self, to: float) -> None:
        """Do everything that is due up to the time `to`, and set the clock to it."""
        while self._agenda and self._agenda[0][0] <= to:
            self.now, _, action = heapq.heappop(self._agenda)
            action()
        self.now = to

    def rest(self) -> None:
        """Advance until nothing is due any more."""
        while self.next_due is not None:
            self.advance(self.next_due)


class Sending:
    """One packet on its way, and what its sender is told about it."""

    def __init__(self, sender: Peer, contents: object, packet: bytes) -> None:
        self._sender = sender
        self._contents = contents
        self._packet = packet
        self._judged = False
        self._plan()

    def _plan(self) -> None:
        simulation, path = self._sender.simulation, self._sender.simulation.path
        chance = simulation.random.random
        sent = self._sender.passes(len(self._packet))
        simulation.plan(sent + 2 * path.delay + simulation.timeout, self._overdue)
        if chance() < path.mistakes:
            simulation.plan(sent + path.delay * chance(), self._overdue)
        if chance() < path.loss or self._sender.loses(self._packet):
            return
        for _ in range(2 if chance() < path.duplication else 1):
            late = 3 * path.delay * chance() if chance() < path.reordering else 0.0
            simulation.plan(sent + path.delay + late, self._arrive)

    def _arrive(self) -> None:
        peer = self._sender.peer
        if peer.receive(self._packet):
            simulation = self._sender.simulation
            simulation.plan(simulation.now + simulation.path.delay, self._acknowledged)

    def _acknowledged(self) -> None:
        """An acknowledgement may come after the packet was taken for lost, and more than once."""
        self._sender.mux.scheduler.delivered(self._contents)
        self._settle()

    def _overdue(self) -> None:
        if not self._judged:
            self._sender.mux.scheduler.lost(self._contents)
            self._settle()

    def _settle(self) -> None:
        if not self._judged:
            self._judged = True
            self._sender.in_flight -= len(self._packet)
        self._sender.pump()


class Peer:
    """One end: a multiplexer and an application.

    If it is `eager`, its application reads what comes at once. Packets for which `loses` is true are lost.
    """

    peer: Peer

    def __init__(self, simulation: Simulation, *, client: bool, limits: Limits | None = None) -> None:
        self.simulation = simulation
        self.mux = Multiplexer(client=client, session=1 if client else 2, limits=limits)
        self.in_flight = 0
        self.sent = 0  # bytes of frames
        self.loses: Callable[[bytes], bool] = lambda packet: False
        self.eager = False
        self.requested: list[Stream] = []
        self.streams: list[Stream] = []  # the streams that were accepted or opened here and have not ended
        self.written: dict[int, bytearray] = {}
        self.finished: set[int] = set()
        self.got: dict[int, bytearray] = {}
        self.ended: set[int] = set()  # the streams whose end has come
        self.closed: dict[int, StreamError | None] = {}
        self._busy_until = 0.0

    # The path

    def passes(self, length: int) -> float:
        """When the last of `length` bytes has left for the path."""
        simulation = self.simulation
        self._busy_until = max(self._busy_until, simulation.now) + length / simulation.path.rate
        return self._busy_until

    def receive(self, packet: bytes) -> bool:
        """A packet has come. Whether it is acknowledged."""
        stored = self.mux.receive(packet, 0)
        self._listen()
        self.pump()
        return stored

    def pump(self) -> None:
        """Send as much as may be in flight."""
        simulation = self.simulation
        while self.mux.scheduler.wants_to_send and self.in_flight < simulation.window:
            pieces: list[bytes | memoryview] = []
            contents = self.mux.scheduler.fill(pieces, simulation.room, simulation.now)
            packet = b"".join(pieces)
            assert len(packet) <= simulation.room
            if contents is None:
                assert not self.mux.scheduler.wants_to_send
                break
            self.in_flight += len(packet)
            self.sent += len(packet)
            Sending(self, contents, packet)
        self._listen()

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
        left = most
        while left > 0 and (data := self.mux.read(stream, left)) is not None:
            assert stream.id not in self.ended, "more after the end"
            if data:
                self.got.setdefault(stream.id, bytearray()).extend(data)
            else:
                self.ended.add(stream.id)
            left -= len(data) or 1
        if left < most:
            self.pump()

    def _listen(self) -> None:
        while (event := self.mux.next_event()) is not None:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        match event:
            case StreamRequested(stream, _):
                self.requested.append(stream)
            case StreamReadable(stream):
                assert unread(stream) <= stream.receiver.size + 1, "more has come than the window and the FIN"
                if self.eager:
                    self.consume(stream, 1 << 40)
            case StreamClosed(stream, error):
                assert stream.id not in self.closed, "closed twice"
                self.closed[stream.id] = error
                self.forget(stream)

    def forget(self, stream: Stream) -> None:
        for streams in (self.requested, self.streams):
            if stream in streams:
                streams.remove(stream)


def unread(stream: Stream) -> int:
    """How many bytes have come that the application has not read; the end counts as one."""
    return stream.receiver.received - stream.receiver.consumed


def joined(
    simulation: Simulation, *, client: Limits | None = None, server: Limits | None = None
) -> tuple[Peer, Peer]:
    """A client and a server with an established session."""
    near = Peer(simulation, client=True, limits=client)
    far = Peer(simulation, client=False, limits=server)
    near.peer, far.peer = far, near
    near.pump()
    simulation.rest()
    if not (near.mux.established and far.mux.established):
        raise LocalProtocolError("no session")
    return near, far
