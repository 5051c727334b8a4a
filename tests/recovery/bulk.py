"""A stand-in for `Recovery` between a bulk source and a sink: acknowledgements, RACK, probes."""

from __future__ import annotations

import math
from collections import deque
from typing import NamedTuple, Protocol

from toxproxy.recovery.congestion import Controller
from toxproxy.recovery.ranges import Ranges
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent

BULK = 1321  # bytes of use in a full packet


class Governor(Protocol):
    """The interface of `Controller`, which a model of a TCP has, too."""

    def allows(self, now: float, in_flight: int) -> bool: ...
    def resumes(self, now: float, in_flight: int) -> float: ...
    def sent(self, packet: Sent, now: float, in_flight: int) -> None: ...
    def exhausted(self, in_flight: int) -> None: ...
    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None: ...


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
        self.control: Governor = governor or Controller(now)
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
        self.checks: list[str] = []

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
            report = Report(rtt, ack.arrived - packet.sent_at + 1000.0, ack.arrived + 1000.0, ack.delay)
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
        if self._to_send <= 0:
            if self._out:
                self.control.exhausted(self.in_flight)
        elif self.control.allows(now, self.in_flight):
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
        for run in self._came.descending():
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
