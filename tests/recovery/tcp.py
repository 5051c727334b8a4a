"""Other traffic: a bulk flow that behaves as TCP does with CUBIC or BBR, roughly.

Acknowledgements, RACK and probes are as simple as they may be; `Cubic` and `Bbr` say what may leave.
"""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from toxproxy.recovery.ranges import Ranges
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent

BULK = 1332  # bytes of use in a full packet


class Governor(Protocol):
    """What may leave, and what came of it; as `Controller`."""

    def allows(self, now: float, in_flight: int) -> bool: ...
    def resumes(self, now: float, in_flight: int) -> float: ...
    def sent(self, packet: Sent, now: float, in_flight: int) -> None: ...
    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None: ...


_PACKET = PACKET_SIZE + OVERHEAD


class Cubic:
    """RFC 9438: slow start until a loss, then CUBIC's growth; after a loss 0.7 of it, once a round."""

    def __init__(self) -> None:
        self.window = 10.0  # packets
        self._threshold = math.inf
        self._most, self._since = 0.0, 0.0
        self._number = self._reduced_at = 0

    def allows(self, now: float, in_flight: int) -> bool:
        return in_flight < self.window * _PACKET

    def resumes(self, now: float, in_flight: int) -> float:
        return now if self.allows(now, in_flight) else math.inf

    def sent(self, packet: Sent, now: float, in_flight: int) -> None:
        self._number = packet.number

    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        if lost and lost[-1].number > self._reduced_at:
            self._reduced_at = self._number
            self._most, self._since = self.window, now
            self.window = self._threshold = max(0.7 * self.window, 2.0)
        elif self.window < self._threshold:
            self.window += len(acked)
        else:
            root = (self._most * 0.3 / 0.4) ** (1 / 3)
            target = 0.4 * (now + 0.05 - self._since - root) ** 3 + self._most
            growth = max((target - self.window) / self.window, 0.01)
            self.window += min(growth, 0.5) * len(acked)


class Bbr:
    """BBR: paced by the highest rate of ten rounds, a cycle of gains, at most twice what the path holds."""

    _GAINS = (1.25, 0.75, 1, 1, 1, 1, 1, 1)

    def __init__(self) -> None:
        self._rates: deque[float] = deque([10 * _PACKET / 0.1], maxlen=10)
        self._trip, self._trip_at = math.inf, 0.0
        self._delivered = 0
        self._at_start: dict[int, tuple[int, float]] = {}
        self._phase, self._phase_at = 0, 0.0
        self._startup, self._flat, self._best = True, 0, 0.0
        self._number = self._round_number = 0
        self._next = 0.0
        self._probing_until = 0.0

    @property
    def _gain(self) -> float:
        return 2.9 if self._startup else self._GAINS[self._phase]

    def _window(self) -> float:
        if self._probing_until:
            return 4.0 * _PACKET
        if self._trip == math.inf:
            return 10.0 * _PACKET
        return max((2.9 if self._startup else 2.0) * max(self._rates) * self._trip, 4.0 * _PACKET)

    def allows(self, now: float, in_flight: int) -> bool:
        return in_flight < self._window() and now >= self._next

    def resumes(self, now: float, in_flight: int) -> float:
        return max(now, self._next) if in_flight < self._window() else math.inf

    def sent(self, packet: Sent, now: float, in_flight: int) -> None:
        self._number = packet.number
        self._at_start[packet.number] = self._delivered, now
        burst = 0.002  # an event loop that is late catches up with so much
        self._next = max(self._next, now - burst) + packet.size / (self._gain * max(self._rates))

    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        for packet in lost:
            self._at_start.pop(packet.number, None)
        if not acked:
            return
        self._delivered += sum(packet.size for packet in acked)
        newest = max(acked, key=lambda packet: packet.number)
        before, at = self._at_start[newest.number]
        for packet in acked:
            self._at_start.pop(packet.number, None)
        rate = (self._delivered - before) / max(now - at, 0.001)
        if report is not None and report.rtt <= self._trip:
            self._trip, self._trip_at = report.rtt, now
        self._note(now, newest, rate)
        if self._probing_until:
            if now >= self._probing_until:
                self._probing_until, self._trip_at = 0.0, now
        elif now - self._trip_at > 10.0:
            self._probing_until = now + 0.2
            self._trip = report.rtt if report else self._trip
        elif not self._startup and now - self._phase_at > self._trip:
            self._phase, self._phase_at = (self._phase + 1) % 8, now

    def _note(self, now: float, newest: Sent, rate: float) -> None:
        if newest.number < self._round_number:
            self._rates[-1] = max(self._rates[-1], rate)
            return
        self._round_number = self._number + 1
        self._rates.append(rate)
        if not self._startup:
            return
        best = max(self._rates)
        self._flat = 0 if best > 1.25 * self._best else self._flat + 1
        self._best = max(self._best, best)
        if self._flat >= 3:
            self._startup, self._phase, self._phase_at = False, 1, now


class Ack(NamedTuple):
    largest: int
    arrived: float
    delay: float
    runs: list[tuple[int, int]]


class Packet(NamedTuple):
    number: int
    floor: int
    size: int
    eliciting: bool
    ack: Ack | None


class Bulk:
    """One end: sends `amount` bytes (inf: without end), and takes what the other sends."""

    def __init__(self, amount: float = 0.0, governor: Governor | None = None, now: float = 0.0) -> None:
        self.control: Governor = governor or Cubic()
        self._to_send = amount
        self._number = 1
        self._out: dict[int, Sent] = {}
        self._order: deque[Sent] = deque()
        self.in_flight = 0
        self._heard = Ranges()  # of the peer's acknowledgements
        self._newest_number = 0
        self._newest = -1.0  # when the newest acknowledged packet left
        self.srtt, self.var, self.least, self.latest = 0.1, 0.05, math.inf, 0.1
        self._measured = False
        self._progress = self._last_sent = self._now = now
        self._probes = 0
        self._probe = False
        self._paced_until = -1.0
        self._came = Ranges()
        self._largest, self._largest_at = 0, 0.0
        self._unacked = 0
        self._ack_at = math.inf
        self._ack_now = False
        self.received = 0
        self.delivered = 0  # bytes of use that the peer acknowledged
        self.sent_packets = self.lost_packets = 0

    def write(self, amount: float) -> None:
        self._to_send += amount

    def size(self, packet: object) -> int:
        assert isinstance(packet, Packet)
        return packet.size

    # Receiving

    def receive(self, packet: object, now: float) -> None:
        assert isinstance(packet, Packet)
        if packet.eliciting:
            self._take(packet, now)
        if packet.ack is not None:
            self._acknowledged(packet.ack, now)

    def _take(self, packet: Packet, now: float) -> None:
        self._came.drop_below(packet.floor)
        if packet.number < packet.floor or packet.number in self._came:
            return
        self._came.add(packet.number, packet.number + 1)
        if packet.size >= BULK:
            self.received += BULK
        if packet.number > self._largest:
            if packet.number != self._largest + 1:
                self._ack_now = True
            self._largest, self._largest_at = packet.number, now
        else:
            self._ack_now = True
        self._unacked += 1
        if self._ack_at == math.inf:
            self._ack_at = now + min(0.005, max(0.001, self.srtt / 8))

    def _acknowledged(self, ack: Ack, now: float) -> None:
        acked: list[Sent] = []
        first = False
        floor = self._order[0].number if self._order else self._number
        for start, end in ack.runs:
            for begin, stop in self._heard.add(max(start, floor), end) if end > floor else ():
                for number in range(begin, stop):
                    packet = self._out.pop(number, None)
                    if packet is not None:
                        acked.append(packet)
                        first = first or number == ack.largest
        if not acked:
            return
        self._probes, self._progress = 0, now
        report = None
        for packet in acked:
            self.in_flight -= packet.size
            self.delivered += BULK if packet.contents is self else 0
            packet.contents = None
        newest = max(acked[0], acked[-1], key=lambda packet: packet.number)
        if newest.number > self._newest_number:
            self._newest, self._newest_number = newest.sent_at, newest.number
        if first:
            packet = next(packet for packet in acked if packet.number == ack.largest)
            rtt = now - packet.sent_at - ack.delay
            self._measure(rtt)
            report = Report(rtt, ack.arrived - packet.sent_at + 1000.0, ack.arrived + 1000.0)
        self.control.feedback(now, acked, self._losses(now), report, self.in_flight)

    def _measure(self, rtt: float) -> None:
        self.latest = rtt
        self.least = min(self.least, rtt)
        if not self._measured:
            self.srtt, self.var, self._measured = rtt, rtt / 2, True
            return
        self.var += (abs(self.srtt - rtt) - self.var) / 4
        self.srtt += (rtt - self.srtt) / 8

    # Loss

    @property
    def _reordering(self) -> float:
        return max(self.least / 8, 0.004) if self._measured else 0.05

    def _losses(self, now: float) -> list[Sent]:
        lost: list[Sent] = []
        order, reordering = self._order, self._reordering
        patience = max(self.latest, self.srtt) + reordering
        while order:
            packet = order[0]
            if packet.contents is None:
                order.popleft()
                continue
            if packet.number > self._newest_number:
                break
            if packet.sent_at + reordering > self._newest and now < packet.sent_at + patience:
                break
            order.popleft()
            self._out.pop(packet.number)
            self.in_flight -= packet.size
            self._to_send += BULK if packet.contents is self else 0
            lost.append(packet)
        self.lost_packets += len(lost)
        return lost

    @property
    def _loss_due(self) -> float:
        order = self._order
        while order and order[0].contents is None:
            order.popleft()
        if not order or order[0].number > self._newest_number:
            return math.inf
        return order[0].sent_at + max(self.latest, self.srtt) + self._reordering

    @property
    def _probe_due(self) -> float:
        if not self._out:
            return math.inf
        timeout = self.srtt + max(4 * self.var, 0.01) + 0.01
        if self._probes > 3:
            timeout = min(timeout * 1.5 ** (self._probes - 3), max(1.0, 1.5 * self.srtt))
        return max(self._progress, self._last_sent) + timeout

    # Sending

    def next_packet(self, now: float) -> object | None:
        self._now = now
        if self._loss_due <= now:
            lost = self._losses(now)
            if lost:
                self.control.feedback(now, [], lost, None, self.in_flight)
        if self._probe_due <= now:
            self._probes += 1
            return self._send(now, 20, "probe")
        if self._to_send > 0 and self.control.allows(now, self.in_flight):
            self._to_send -= BULK
            return self._send(now, PACKET_SIZE, self)
        if self._ack_now or self._unacked >= 16 or now >= self._ack_at:
            return Packet(self._number, 0, OVERHEAD + 26, False, self._ack(now))
        return None

    def _send(self, now: float, length: int, contents: object) -> Packet:
        packet = Sent(self._number, now, length + OVERHEAD, contents)
        self._number += 1
        self._out[packet.number] = packet
        self._order.append(packet)
        self.in_flight += packet.size
        self.sent_packets += 1
        self._last_sent = now
        self.control.sent(packet, now, self.in_flight)
        floor = self._order[0].number
        self._heard.drop_below(floor)
        return Packet(packet.number, floor, packet.size, True, self._ack(now) if self._unacked else None)

    def _ack(self, now: float) -> Ack:
        self._unacked, self._ack_at, self._ack_now = 0, math.inf, False
        runs = []
        for run in self._came:
            runs.append(run)
            if len(runs) == 64:
                break
        return Ack(self._largest, self._largest_at, now - self._largest_at, runs)

    @property
    def due(self) -> float:
        now_or_later = self._ack_at if not self._ack_now and self._unacked < 16 else 0.0
        at = min(now_or_later, self._loss_due, self._probe_due)
        if self._to_send > 0:
            at = min(at, self.control.resumes(self._now, self.in_flight))
        return at
