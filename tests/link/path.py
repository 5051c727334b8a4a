"""A path between two ends in virtual time, and the flows that share it. Nothing here waits or sleeps.

Time advances in turns of an event loop, one millisecond each by default. All flows share one bottleneck
with a tail-drop queue. Behind it packets are lost at random, and so are the datagrams that acknowledge
up to 32 packets each. Everything is seeded, so that every run can be repeated.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.link.congestion import LEAST_WINDOW, MOST_WINDOW, Controller

PACKET = 1343  # bytes
FRAME = 8 * PACKET  # bytes
_BURST = 96 * 1024  # bytes that the application writes at once
_ACKS = 32  # acknowledgements in a datagram
_HELLO = 64  # bytes of the first packet


@dataclass(frozen=True, slots=True)
class Path:
    """The path. Both directions have the delay and the loss; the rate and the queue are in one only."""

    rate: float = math.inf  # bytes per second
    delay: float = 0.025  # seconds, one way
    queue: float = math.inf  # bytes
    loss: float = 0.0  # share of packets, 0 to 1
    jitter: float = 0.0  # seconds: the most that a round trip takes longer, at random

    @property
    def round_trip(self) -> float:
        """Seconds of a round trip with an empty queue."""
        return 2 * self.delay

    @property
    def achievable(self) -> float:
        """The most bytes per second that can arrive and be acknowledged."""
        return min(self.rate, MOST_WINDOW / self.round_trip) * (1 - self.loss) ** 2


class Packet:
    """One packet of one flow. Several copies of it may be under way."""

    __slots__ = ("due", "flow", "live", "number", "received", "size", "timeout")

    def __init__(self, flow: Flow, number: int, size: int) -> None:
        self.flow = flow
        self.number = number
        self.size = size
        self.live = True  # until it is acknowledged
        self.received = False
        self.timeout = 0  # turns; 0 until sent
        self.due = 0  # the turn in which its timeout ends


class Flow:
    """One sender. `pending` is the number of bytes that its application still has to send."""

    def __init__(self, pending: float = math.inf) -> None:
        self.pending = pending
        self.received = 0  # bytes that arrived, without duplicates
        self.progress: list[int] = []  # `received` after every turn
        self.sent: list[int] = []  # bytes in every turn
        self.network: Network
        self._sent = 0  # bytes in this turn

    def start(self) -> None:
        """Called by the network once: begin to send."""

    def turn(self, acknowledged: list[tuple[Packet, int]]) -> None:
        """Called by the network in every turn, with acknowledged packets and the turns of their sending."""

    def note(self) -> None:
        """Called by the network at the end of every turn."""
        self.progress.append(self.received)
        self.sent.append(self._sent)
        self._sent = 0

    def put(self, packet: Packet) -> None:
        """Send a packet."""
        self._sent += packet.size
        self.network.put(packet)

    def goodput(self, begin: float, end: float) -> float:
        """Bytes per second that arrived in an interval in seconds."""
        progress, turn = self.progress, self.network.turn
        first, last = round(begin / turn), round(end / turn)
        return (progress[last - 1] - progress[first - 1 if first else 0]) / (end - begin)


class Network:
    """The path, its clock and its flows."""

    def __init__(self, path: Path, *flows: Flow, seed: int = 1, turn: float = 0.001) -> None:
        self.path = path
        self.turn = turn
        self.random = random.Random(seed)
        self.clock = 0  # turns
        self.flows: list[Flow] = []
        self.delays: list[float] = []  # the queueing delay in seconds, in every turn
        self.dropped = 0  # packets that found the queue full
        self._queue: deque[tuple[Packet, int]] = deque()
        self._queued = 0  # bytes
        self._credit = 0.0  # bytes that the rate has left to serve
        self._acknowledged: defaultdict[int, list[tuple[Packet, int]]] = defaultdict(list)
        self._agenda: defaultdict[int, list[Callable[[], None]]] = defaultdict(list)
        for flow in flows:
            self.join(flow)

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.clock * self.turn

    def join(self, flow: Flow) -> None:
        """Add a flow, which begins now."""
        flow.network = self
        flow.progress += [0] * len(self.delays)
        flow.sent += [0] * len(self.delays)
        self.flows.append(flow)
        flow.start()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Call `action` at a later time."""
        self._agenda[round(when / self.turn)].append(action)

    def change(self, when: float, path: Path) -> None:
        """Replace the path at a later time. The packets in its queue stay there."""

        def change() -> None:
            self.path = path

        self.at(when, change)

    def put(self, packet: Packet) -> None:
        """Put a packet into the queue of the bottleneck."""
        if self._queued + packet.size > self.path.queue:
            self.dropped += 1
            return
        self._queued += packet.size
        self._queue.append((packet, self.clock))

    def run(self, until: float) -> None:
        """Advance the clock."""
        end = round(until / self.turn)
        while self.clock < end:
            for action in self._agenda.pop(self.clock, ()):
                action()
            self._serve()
            arrived = self._acknowledged.pop(self.clock, [])
            for flow in self.flows:
                flow.turn([item for item in arrived if item[0].flow is flow])
                flow.note()
            self.delays.append(self._queued / self.path.rate if self.path.rate else math.inf)
            self.clock += 1

    def queue_delay(self, begin: float, end: float, share: float = 0.5) -> float:
        """The queueing delay in seconds that was not exceeded in `share` of an interval."""
        delays = sorted(self.delays[round(begin / self.turn) : round(end / self.turn)])
        return delays[int(share * (len(delays) - 1))]

    def _serve(self) -> None:
        """Send on as many bytes as the rate allows in a turn."""
        self._credit += self.path.rate * self.turn
        queue, served = self._queue, []
        while queue and self._credit >= queue[0][0].size:
            packet, _ = item = queue.popleft()
            self._credit -= packet.size
            self._queued -= packet.size
            served.append(item)
        if not queue:
            self._credit = 0.0
        if served:
            self._deliver(served)

    def _deliver(self, served: list[tuple[Packet, int]]) -> None:
        chance, loss = self.random.random, self.path.loss
        arrived = [item for item in served if chance() >= loss] if loss else served
        for packet, _ in arrived:
            if not packet.received:
                packet.received = True
                packet.flow.received += packet.size
        late = self.path.jitter * chance() if self.path.jitter else 0.0
        back = self._acknowledged[self.clock + max(1, round((self.path.round_trip + late) / self.turn))]
        for at in range(0, len(arrived), _ACKS):
            if chance() >= loss:
                back += arrived[at : at + _ACKS]


class EnetFlow(Flow):
    """A congestion controller, used as `EnetLink` uses it, with the retransmissions of ENet.

    ENet retransmits a packet after its timeout: the smoothed round trip plus four times its variance.
    Each retransmission doubles the timeout of the packet. Until the timeout the packet is in flight.
    The application's bytes wait until a first small packet has been acknowledged.
    """

    def __init__(self, pending: float = math.inf) -> None:
        super().__init__(pending)
        self.control: Controller
        self.resent = 0
        self._in_flight = 0
        self._number = 0
        self._outbox: deque[Packet] = deque()
        self._timeouts: defaultdict[int, list[Packet]] = defaultdict(list)
        self._round_trip = 0  # milliseconds, as all times of ENet
        self._variance = 0
        self._wake = 0  # turn

    def start(self) -> None:
        self._round_trip = max(1, round(1000 * self.network.path.round_trip))
        self._variance = (self._round_trip + 1) // 2
        self.control = Controller(self.network.now)
        wanted, self.pending = self.pending, 0
        self.write(_HELLO)
        self.network.at(self.network.now + 1.1 * self.network.path.round_trip, lambda: self.write(wanted))

    def write(self, length: float) -> None:
        """The application writes while the flow is idle."""
        self.pending += length
        self._send()
        self._arm()

    def stop(self) -> None:
        """The application stops writing."""
        self.pending = 0

    @property
    def sent_packets(self) -> int:
        """The number of packets, retransmissions not counted."""
        return self._number

    def turn(self, acknowledged: list[tuple[Packet, int]]) -> None:
        clock = self.network.clock
        due = [p for p in self._timeouts.pop(clock, ()) if p.live and p.due == clock]
        if acknowledged or due or clock == self._wake:
            self._measure(self._service(acknowledged, due))
            self._offer()
            self._arm()

    def _service(self, acknowledged: list[tuple[Packet, int]], due: list[Packet]) -> float | None:
        """Do what ENet's service call does. Returns the first round trip that it measures, in seconds."""
        scale, trip = 1000 * self.network.turn, None
        for packet, sent in acknowledged:
            milliseconds = max(1, int(self.network.clock * scale) - int(sent * scale))
            trip = trip or milliseconds / 1000
            self._variance -= self._variance // 4
            difference = milliseconds - self._round_trip
            self._variance += abs(difference) // 4
            self._round_trip += difference // 8 if difference >= 0 else -(-difference // 8)
            if packet.live:
                packet.live = False
                if packet.due:
                    self._in_flight -= packet.size
        for packet in reversed(due):
            if packet.live:
                self._in_flight -= packet.size
                self.resent += 1
                packet.timeout *= 2
                packet.due = 0
                self._outbox.appendleft(packet)
        self._flush()
        return trip

    def _flush(self) -> None:
        network, window = self.network, 2 * MOST_WINDOW
        timeout = (self._round_trip + 4 * self._variance) / (1000 * network.turn)
        while self._outbox and self._in_flight + self._outbox[0].size <= window:
            packet = self._outbox.popleft()
            if packet.live:
                packet.timeout = packet.timeout or max(1, round(timeout))
                packet.due = network.clock + packet.timeout
                self._timeouts[packet.due].append(packet)
                self._in_flight += packet.size
                self.put(packet)

    def _measure(self, trip: float | None) -> None:
        self.control.delivered(self.network.now, self._in_flight, trip)
        assert LEAST_WINDOW <= self.control.window <= MOST_WINDOW
        self._variance = max(self._variance, int(self.control.spread * 1000 / 4))

    def _offer(self) -> None:
        self._send()
        if self.control.allowance(self.network.now, self._in_flight) > 0:
            self.control.left_room(self._in_flight)

    def _send(self) -> None:
        now, control = self.network.now, self.control
        while self.pending > 0 and (budget := control.allowance(now, self._in_flight)) > 0:
            budget = queued = min(budget, _BURST)
            while self.pending > 0 and budget > 0:
                budget -= self._frame()
            control.sent(now, queued - budget)
            self._flush()

    def _frame(self) -> int:
        length = int(min(self.pending, FRAME))
        self.pending -= length
        for at in range(0, length, PACKET):
            self._number += 1
            self._outbox.append(Packet(self, self._number, min(PACKET, length - at)))
        return length

    def _arm(self) -> None:
        if self._in_flight < self.control.window and (pause := self.control.pause()):
            self._wake = self.network.clock + max(1, math.ceil(pause / self.network.turn))
        else:
            self._wake = 0


class TcpFlow(Flow):
    """A bulk transfer by TCP with CUBIC (RFC 9438). Its packets are lost only by a full queue."""

    def __init__(self) -> None:
        super().__init__()
        self._window = 10.0  # packets
        self._ceiling = math.inf  # the window at the last loss
        self._lost_at = 0.0
        self._recovered = 0  # the number of the first packet whose loss is a new congestion event
        self._number = 0
        self._outstanding: deque[Packet] = deque()

    def start(self) -> None:
        self._send()

    def turn(self, acknowledged: list[tuple[Packet, int]]) -> None:
        if not acknowledged:
            return
        for packet, _ in acknowledged:
            while self._outstanding and self._outstanding[0].number < packet.number:
                self._lost(self._outstanding.popleft())
            if self._outstanding and self._outstanding[0] is packet:
                self._outstanding.popleft()
                self._grow()
        self._send()

    def _lost(self, packet: Packet) -> None:
        if packet.number >= self._recovered:
            self._recovered = self._number
            self._ceiling = self._window
            self._window = max(2.0, 0.7 * self._window)
            self._lost_at = self.network.now

    def _grow(self) -> None:
        if math.isinf(self._ceiling):
            self._window += 1
            return
        seconds = self.network.now - self._lost_at - math.cbrt(0.3 * self._ceiling / 0.4)
        target = min(0.4 * seconds**3 + self._ceiling, 1.5 * self._window)
        self._window += max(target - self._window, 0.01) / self._window

    def _send(self) -> None:
        while len(self._outstanding) < self._window:
            packet = Packet(self, self._number, PACKET)
            self._number += 1
            self._outstanding.append(packet)
            self.put(packet)
