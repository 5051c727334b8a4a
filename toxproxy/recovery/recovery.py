"""One side of a session's packets, through all of its links.

    source                       Recovery                          link
      fill, wants_to_send   ->   next_packet                  ->
      receive               <-   receive                      <-
      delivered, lost       <-

No call waits, and nothing is sent on its own. After any call, take packets until `next_packet` returns
None, and call it again at `due`. Packet numbers are never reused. A lost packet is not sent again;
its contents go back to the source, which sends what still matters in other packets.

On a later link of a session, each side sends only probes, with an acknowledgement, until a packet of
the peer has come. What that one does not acknowledge was lost with the old link.
"""

from __future__ import annotations

import math
from collections import deque

from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery import packet
from toxproxy.recovery.congestion import Controller
from toxproxy.recovery.flight import Flight
from toxproxy.recovery.received import Received
from toxproxy.recovery.roundtrip import RoundTrip
from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE, Report, Sent
from toxproxy.recovery.source import Source

_PROBES = 3  # that follow one another without a growing pause; then they go in pairs, since there are
_PAIR = 0.002  # losses that end with so many packets, not with time; seconds between the two of a pair
_BACKOFF = 1.5  # each pause is so much longer, for each probe …
_MOST_PAUSE, _MOST_PAUSE_TRIPS = 0.25, 1.5  # … up to so many seconds, or round trips if that is longer
_MOST_REFUSED = 64  # packets that a carrier may refuse at once
_REFUSED = 0.005  # seconds that nothing is sent after the carrier's queue was full
_ROOM = PACKET_SIZE - packet.HEADER


class Recovery:
    """Sends what `source` fills packets with, over whatever link there is. Times are in seconds.

    `link_up` and `link_down` tell of links. Without a link nothing is sent, and nothing is forgotten.
    """

    def __init__(self, source: Source, now: float) -> None:
        self.trip = RoundTrip()
        self.controller = Controller(now)
        self.flight = Flight()
        self.lost = 0  # packets, since the session began
        self._source = source
        self._received = Received()
        self._now = now
        self._up = False
        self._ids = b""  # the introduction, while it is to be sent
        self._introduction = b""
        self._met = False
        self._first = 1  # the first packet number of this link
        self._confirmed = True  # the peer has acknowledged a packet of this link
        self._probes = 0  # in a row, without an acknowledgement
        self._waits_since = now  # for an acknowledgement, while anything is in flight
        self._heard = now
        self._held_until = 0.0
        self._left: deque[int] = deque(maxlen=_MOST_REFUSED)  # numbers of the last packets; 0 for one without
        self._looked_at = -math.inf  # for losses and for a probe that is due
        self._peer_clock: float | None = None  # of the last arrival that was reported, unwrapped, in seconds
        self._peer_clock_raw = 0

    # The owner's calls

    def introduce(self, client: int, server: int) -> None:
        """At the client: the session ids that the first packets of a link name; 0 if not known yet."""
        self._introduction = packet.ids(client, server)
        if self._ids:
            self._ids = self._introduction

    def link_up(self, now: float) -> None:
        """There is a link, the first one or another one."""
        self._up, self._met = True, False
        self._ids = self._introduction
        self._confirmed = self.flight.next_number == 1 and not self._received.any
        self._first = self.flight.next_number
        self._probes = 0
        self._now = self._heard = self._waits_since = now
        self._held_until = 0.0
        if not self._confirmed:  # another link is another path
            self._waits_since = -math.inf  # the first probe leaves at once
            self.trip = RoundTrip()
            self.controller = Controller(now)

    def link_down(self, now: float) -> None:
        """The link is lost. What it carried may have arrived."""
        self._up, self._now = False, now

    @property
    def met(self) -> bool:
        """Whether a packet came on this link."""
        return self._met

    @property
    def unanswered_since(self) -> float | None:
        """Since when an acknowledgement is due; None if none is."""
        return max(self._waits_since, self._heard) if self._up and self.flight.count else None

    @property
    def due(self) -> float:
        """When to call `next_packet` again at the latest; inf if only the peer or the source changes that."""
        if not self._up:
            return math.inf
        due = min(self._received.due, self.flight.overdue_at(self.trip, self._now), self._probe_at)
        if self._may_fill and self._source.wants_to_send:
            resumes = self.controller.resumes(self._now, self.flight.bytes)
            due = min(due, max(resumes, self._held_until))
        return due

    # Receiving

    def receive(self, data: bytes, now: float) -> None:
        """One packet came. Raises `RemoteProtocolError` if it is malformed, or a frame in it is."""
        self._now = self._heard = now
        if len(data) < packet.HEADER:
            raise RemoteProtocolError(f"a packet of {len(data)} bytes, expected {packet.HEADER} at least")
        flags, low, span = packet.parse_header(data)
        at = packet.HEADER
        if flags:
            if flags & ~(packet.INTRODUCTION | packet.ACK | packet.PROBE):
                raise RemoteProtocolError(f"a packet with unknown flags 0x{flags:02x}")
            if flags & packet.INTRODUCTION:
                at += len(packet.ids(0, 0))
                if self._introduction or len(data) < at:
                    raise RemoteProtocolError("an introduction that is too short, or from the server")
            if flags & packet.ACK:
                at = self._acknowledged(data, at, now)
        if not self._met:
            self._meet(now)
        received = self._received
        number = packet.expanded(low, received.largest)
        received.raise_floor(number - span)
        if at == len(data) and not flags & packet.PROBE:
            return
        if received.is_new(number) and (at == len(data) or self._source.receive(data, at)):
            received.add(number, now, self._round_trip, urgent=bool(flags & packet.PROBE))

    @property
    def _round_trip(self) -> float:
        return self.trip.smoothed if self.trip.known else 0.0

    def _meet(self, now: float) -> None:
        self._met = True
        self._ids = b""
        for each in self.flight.lose_before(self._first, now):
            if each.contents is not None:
                self._source.lost(each.contents)
        self._waits_since = now

    def _acknowledged(self, data: bytes, at: int, now: float) -> int:
        ack = packet.parse_acknowledgement(data, at)
        acked, newest = self.flight.acknowledge(ack, now)
        delivered = self._source.delivered
        for each in acked:
            if each.contents is not None:
                delivered(each.contents)
        if acked:
            self._probes = 0
            self._waits_since = now
            self._confirmed = self._confirmed or any(each.number >= self._first for each in acked)
        report = None
        if newest is not None and newest.number >= self._first:
            report = self._report(ack, newest, now)
            self.trip.add(report.rtt, now)
        lost = self._find_lost(now)
        if acked or lost:
            self.controller.feedback(now, acked, lost, report, self.flight.bytes)
        return ack.end

    def _report(self, ack: packet.Acknowledgement, newest: Sent, now: float) -> Report:
        if self._peer_clock is None:
            self._peer_clock = ack.received * 1e-6
        else:
            step = ((ack.received - self._peer_clock_raw + 0x8000_0000) & 0xFFFF_FFFF) - 0x8000_0000
            self._peer_clock += step * 1e-6
        self._peer_clock_raw = ack.received
        rtt = now - newest.sent_at
        rtt = max(rtt - ack.delay, rtt / 16)
        return Report(rtt, self._peer_clock - newest.sent_at, self._peer_clock, ack.delay)

    def _find_lost(self, now: float) -> list[Sent]:
        lost = self.flight.find_lost(now, self.trip)
        for each in lost:
            if each.contents is not None:
                self._source.lost(each.contents)
        self.lost += len(lost)
        return lost

    # Sending

    def next_packet(self, now: float) -> bytes | None:
        """The next packet that may leave now, or None."""
        self._now = now
        if not self._up:
            return None
        flight = self.flight
        if now != self._looked_at:
            self._looked_at = now
            if flight.count and now >= flight.overdue_at(self.trip, now) and (lost := self._find_lost(now)):
                self.controller.feedback(now, [], lost, None, flight.bytes)
            if now >= self._probe_at:
                return self._probe(now)
        allowed = now >= self._held_until and self._may_fill and self.controller.allows(now, flight.bytes)
        if allowed:
            if self._source.wants_to_send:
                if (filled := self._build(now, 0)) is not None:
                    return filled
            else:
                self.controller.exhausted(flight.bytes)
        if now >= self._received.due:
            return self._build(now, 0, bare=not allowed)
        return None

    def refused(self, count: int, now: float) -> None:
        """The carrier did not take the last `count` packets: its queue is full. They are sent again soon."""
        self._held_until = now + _REFUSED
        for _ in range(min(count, len(self._left))):
            sent = self.flight.withdraw(self._left.pop())
            if sent is not None and sent.contents is not None:
                self._source.lost(sent.contents)
        self._received.repeat(self._held_until)

    @property
    def _may_fill(self) -> bool:
        """Whether frames may be sent: not on a later link whose peer was not heard yet."""
        return self._met or self._confirmed

    @property
    def _probe_at(self) -> float:
        """When a probe is due, if nothing is acknowledged until then."""
        if not self.flight.count or self.flight.next_number == self._first:  # none on this link
            return math.inf if self._may_fill else max(self._waits_since, self._held_until)
        pause = self.trip.patience if self.trip.known else 3 * self.trip.smoothed
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
        oldest = self.flight.oldest
        if self._may_fill and oldest is not None and oldest.contents is not None:
            self._source.lost(oldest.contents)
        return self._build(now, packet.PROBE)

    def _build(self, now: float, flags: int, *, bare: bool = False) -> bytes | None:
        """A packet with what is due: introduction, acknowledgement, frames. None if there is nothing.

        A `bare` one has no frames: window or pace hold those back, but not an acknowledgement.
        """
        flight, received = self.flight, self._received
        pieces: list[bytes | memoryview] = [b""]
        room = _ROOM
        if self._ids:
            flags |= packet.INTRODUCTION
            pieces.append(self._ids)
            room -= len(self._ids)
        if received.pending or (received.any and not self._confirmed):
            flags |= packet.ACK
            ack = received.acknowledgement(now)
            pieces.append(ack)
            room -= len(ack)
        contents = self._source.fill(pieces, room, now) if self._may_fill and not bare else None
        number = flight.next_number
        span = min(number - flight.floor, packet.MOST_SPAN)
        pieces[0] = packet.header(flags, number & 0xFFFF_FFFF, span)
        if contents is None and not flags & packet.PROBE:
            if not flags & packet.ACK:
                return None
            self._left.append(0)
            return b"".join(pieces)
        self._left.append(number)
        data = b"".join(pieces)
        sent = Sent(number, now, len(data) + OVERHEAD, contents)
        if not flight.count:
            self._waits_since = now
        flight.add(sent)
        self.controller.sent(sent, now, flight.bytes)
        return data
