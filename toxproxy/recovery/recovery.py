"""One side of a session's packets, through all of its links.

    source                       Recovery                          link
      fill, wants_to_send   ->   next_packet                  ->
      delivered, lost       <-   receive                      <-
                       frames <-

No call waits, and nothing is sent on its own. After any call, take packets until `next_packet` returns
None, and call it again at `due`. Packet numbers are never reused. A lost packet is not sent again;
its contents go back to the source, which sends what still matters in other packets.

On a later link of a session, each side sends only probes, with an acknowledgement, until a packet of
the peer has come. What that one does not acknowledge was lost with the old link.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery import packet
from toxproxy.recovery.congestion import Controller
from toxproxy.recovery.flight import Flight
from toxproxy.recovery.received import Received
from toxproxy.recovery.roundtrip import RoundTrip
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent

_PROBES = 3  # that follow one another without a growing pause; then they go in pairs, since there are
_PAIR = 0.002  # losses that end with so many packets, not with time; seconds between the two of a pair
_MOST_PROBES = 256  # that are remembered of a peer who is there, but acknowledges nothing
_BACKOFF = 1.5  # each pause is so much longer, for each probe …
_MOST_PAUSE, _MOST_PAUSE_TRIPS = 0.25, 1.5  # … up to so many seconds, or round trips if that is longer
_MOST_REFUSED = 64  # packets that a carrier may refuse at once
_FULL, _MOST_FULL = 0.005, 0.1  # seconds to wait for a full carrier, doubled while it takes nothing
_ROOM = PACKET_SIZE - packet.HEADER
_FLAGS = packet.INTRODUCTION | packet.ACK | packet.PROBE


class Source(Protocol):
    """Frames of at most `room` bytes for each packet; see `Recovery`."""

    @property
    def wants_to_send(self) -> bool:
        """Whether `fill` would return anything."""

    def fill(self, pieces: list[bytes | memoryview], room: int, now: float) -> Any | None:
        """Append frames of at most `room` bytes in all, for one packet. Returns what they are, or None.

        What would not be sent again is left out: a packet of such frames alone has empty contents.
        """

    def delivered(self, contents: Any) -> None:
        """The packet with these contents has arrived."""

    def lost(self, contents: Any) -> None:
        """The packet was lost, or is to be sent again to be sure. Send again what still matters."""


class Recovery:
    """Sends what `source` fills packets with, over whatever link there is. Times are in seconds.

    `handle` gets each packet of the peer that has frames, once or more than once, and where they begin. It
    returns False if they cannot be stored now; then the packet is not acknowledged. It may raise
    `RemoteProtocolError`. `introduction` is at the client `packet.ids` of the session, for the first packets
    of a link.

    `link_up` and `link_down` tell of links. Without a link nothing is sent, and nothing is forgotten.
    """

    def __init__(self, source: Source, handle: Callable[[bytes, int], bool], now: float) -> None:
        self.flight = Flight()
        self.received = Received()
        self.lost = 0  # packets, since the session began
        self.met = False  # a packet came on this link
        self.introduction = b""
        self._up = False
        self._source = source
        self._handle = handle
        self._left: deque[int] = deque(maxlen=_MOST_REFUSED)  # since `refused`: packets; 0 has no number
        self._looked_at = -math.inf  # for losses and for a probe that is due
        self._ahead = 0.0  # of our clock is the peer's, in microseconds
        self._begin_path(now)

    # The owner's calls

    def link_up(self, now: float) -> None:
        """There is a link, the first one or another one, which is another path."""
        self._up = True
        self._begin_path(now)

    def _begin_path(self, now: float) -> None:
        self.trip = RoundTrip()
        self.controller = Controller(now)
        self._now = now
        self._first = self.flight.next_number  # of this link
        self._probes = 0  # in a row, without an acknowledgement
        # For an acknowledgement, while anything is in flight. The first probe leaves at once.
        self._waits_since = -math.inf
        self._held_until = 0.0
        self._full = _FULL

    def link_down(self, now: float) -> None:
        """The link is lost. What it carried may have arrived."""
        self._up = self.met = False
        self._now = now

    @property
    def due(self) -> float:
        """When to call `next_packet` again at the latest; inf if only the peer or the source changes that."""
        if not self._up:
            return math.inf
        due = min(self.received.due, self.flight.overdue_at(self.trip, self._now), self._probe_at)
        if self._may_fill and self._source.wants_to_send:
            resumes = self.controller.resumes(self._now, self.flight.bytes)
            due = min(due, max(resumes, self._held_until))
        return due

    # Receiving

    def receive(self, data: bytes, now: float) -> None:
        """One packet came. Raises `RemoteProtocolError` if it is malformed, or a frame in it is."""
        self._now = now
        received = self.received
        flags, number = packet.parse_header(data, received.largest)
        at = packet.HEADER
        if flags:
            if flags & ~_FLAGS:
                raise RemoteProtocolError(f"a packet with unknown flags 0x{flags:02x}")
            if flags & packet.INTRODUCTION:
                at += packet.IDS
                if self.introduction or len(data) < at:
                    raise RemoteProtocolError("an introduction that is too short, or from the server")
            if flags & packet.ACK:
                ack = packet.parse_acknowledgement(data, at)
                at = ack.end
                received.raise_floor(number - ack.span)
                self._acknowledged(ack, now)
        if not self.met:  # what the old link carried and the peer does not know is lost
            self.met = True
            self._lose(self.flight.lose_before(self._first, now))
            self._waits_since = now
        if at == len(data) and not flags & packet.PROBE:
            return
        if received.is_new(number) and (at == len(data) or self._handle(data, at)):
            received.add(number, now, self.trip.smoothed, urgent=bool(flags & packet.PROBE))

    def _acknowledged(self, ack: packet.Acknowledgement, now: float) -> None:
        acked, newest = self.flight.acknowledge(ack, now)
        delivered = self._source.delivered
        for each in acked:
            if each.contents is not None:
                delivered(each.contents)
        if acked:
            self._probes = 0
            self._waits_since = now
        report = None
        if newest is not None and newest.number >= self._first and ack.delay < packet.MOST_DELAY:
            report = self._report(ack, newest, now)
            self.trip.add(report.rtt, now)
        lost = self._find_lost(now)
        if acked or lost:
            self.controller.feedback(now, acked, lost, report, self.flight.bytes)

    def _report(self, ack: packet.Acknowledgement, newest: Sent, now: float) -> Report:
        # Silence may hide turns of the peer's clock, which has 32 bits: our own clock counts them.
        arrived = packet.expanded(ack.received, int(now * 1e6 + self._ahead))
        self._ahead = arrived - now * 1e6
        rtt = now - newest.sent_at
        rtt = max(rtt - ack.delay, rtt / 16)
        return Report(rtt, arrived * 1e-6 - newest.sent_at, arrived * 1e-6)

    def _find_lost(self, now: float) -> list[Sent]:
        lost = self.flight.find_lost(now, self.trip)
        self._lose(lost)
        self.lost += len(lost)
        return lost

    def _lose(self, packets: Iterable[Sent]) -> None:
        """The source sends again what still matters of these packets."""
        for each in packets:
            if each.contents is not None:
                self._source.lost(each.contents)

    # Sending

    def next_packet(self, now: float) -> bytes | None:
        """The next packet that may leave now, or None."""
        self._now = now
        if not self._up:
            return None
        flight = self.flight
        if now != self._looked_at:
            self._looked_at = now
            if now >= flight.overdue_at(self.trip, now) and (lost := self._find_lost(now)):
                self.controller.feedback(now, [], lost, None, flight.bytes)
            if now >= self._probe_at:
                return self._probe(now)
        allowed = now >= self._held_until and self._may_fill and self.controller.allows(now, flight.bytes)
        if allowed:
            if self._source.wants_to_send:
                if (filled := self._build(now, 0, fill=True)) is not None:
                    return filled
            else:
                self.controller.exhausted(flight.bytes)
        if now >= self.received.due:
            return self._build(now, 0, fill=allowed)
        return None

    def refused(self, count: int, now: float) -> None:
        """The carrier did not take the last `count` packets: its queue is full. They are sent again soon."""
        if len(self._left) > count:
            self._full = _FULL
        self._held_until = now + self._full
        self._full = min(2 * self._full, _MOST_FULL)
        for _ in range(min(count, len(self._left))):
            if (sent := self.flight.withdraw(self._left.pop())) is not None:
                self._lose([sent])
        self._left.clear()  # the carrier took the others
        self.received.repeat(self._held_until)

    @property
    def _may_fill(self) -> bool:
        """Whether frames may be sent: not on a later link whose peer was not heard yet."""
        return self.met or self._first == 1

    @property
    def _probe_at(self) -> float:
        """When a probe is due, if nothing is acknowledged until then."""
        if not self.flight.bytes or self.flight.next_number == self._first:  # none on this link
            return math.inf if self._may_fill else max(self._waits_since, self._held_until)
        pause = self.trip.patience
        more = self._probes - _PROBES
        if more > 0:
            most = max(_MOST_PAUSE, _MOST_PAUSE_TRIPS * self.trip.smoothed)
            pause = _PAIR if more % 2 else min(pause * _BACKOFF ** min(more, 20), most)
        oldest = self.flight.oldest
        since = self._waits_since if oldest is None else max(self._waits_since, oldest.sent_at)
        return max(since + pause, self._held_until)

    def _probe(self, now: float) -> bytes | None:
        """Send the oldest contents again, whatever window and pace say. Nothing is taken for lost."""
        self._probes += 1
        self._waits_since = now
        fill = self._may_fill
        if fill and (oldest := self.flight.oldest) is not None:
            if (again := self.flight.oldest_to_repeat) is not None:
                self._lose([again])
            if self._probes > _MOST_PROBES:
                self.flight.withdraw(oldest.number)
        return self._build(now, packet.PROBE, fill=fill)

    def _build(self, now: float, flags: int, *, fill: bool) -> bytes | None:
        """A packet with what is due: introduction, acknowledgement, frames. None if there is nothing.

        Not to `fill` it leaves frames out: window or pace hold those back, but not an acknowledgement.
        """
        flight, received = self.flight, self.received
        pieces: list[bytes | memoryview] = [b""]
        room = _ROOM
        pending = received.pending
        if self.introduction and not self.met:
            flags |= packet.INTRODUCTION
            pieces.append(self.introduction)
            room -= packet.IDS
        number = flight.next_number
        if pending or (received.largest and flight.newest.number < self._first):
            flags |= packet.ACK
            ack = received.acknowledgement(number - flight.floor, now)
            pieces.append(ack)
            room -= len(ack)
        contents = self._source.fill(pieces, room, now) if fill else None
        pieces[0] = packet.header(flags, number)
        if contents is None and not flags & packet.PROBE:
            if not pending:
                return None
            self._left.append(0)
            return b"".join(pieces)
        self._left.append(number)
        data = b"".join(pieces)
        sent = Sent(number, now, len(data) + OVERHEAD, contents)
        if not flight.bytes:
            self._waits_since = now
        flight.add(sent)
        self.controller.sent(sent, now, flight.bytes)
        return data
