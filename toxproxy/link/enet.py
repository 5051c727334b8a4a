"""ENet over a datagram function.

ENet needs a UDP socket of its own. It gets one on loopback, connected to a second socket of this
process, the shim. The shim is connected back, so the kernel drops what other processes send to
either. The pair only serves as a queue: the shim is written when datagrams came from the peer, and
read after ENet has written, so neither socket is polled.

    packets -> ENet -> [its socket] -> [shim] -> send(header + datagram)
    packets <- ENet <- [its socket] <- [shim] <- datagram_received

ENet makes the connection, keeps it alive with pings, ends it, and carries unsequenced packets. What is
lost is not its matter. A `Filter` stands between it and the peer, whom ENet would trust. This module
does not wait for ENet's timeouts, which double: it repeats its part of the handshake by itself, and
pings a silent peer by itself. It ends a silent link before ENet would.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import enet

from toxproxy.link import connect, exports
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.filter import MTU, PACKET_AT, PACKET_SIZE, Filter, is_packet
from toxproxy.link.shim import join
from toxproxy.pace import Notice
from toxproxy.system.batch import MOST, Batch, Cork, segments

log = logging.getLogger(__name__)

CHANNELS = 1
SILENCE = 10.0  # seconds after which a link that heard nothing ends
MEETING = 10.0  # seconds that a new link has to come up
_REPEAT = 0.5  # seconds between two repetitions of this side's part of the handshake
_LEAST_REPEAT = 0.1  # seconds between two answers to a peer that repeats its own
_QUIET = 2.0  # seconds of silence after which the peer is pinged …
_QUIETER = 1.0  # … and after which it is pinged again
_TIMEOUT = 60_000  # ms after which ENet would give up; a silent link ends before that
_FAREWELLS = (0.1, 0.3, 0.6)  # seconds after the first at which a farewell is sent again …
_LINGER = 1.0  # … and at which the link ends
_LEAST_FAREWELL = 0.05  # seconds between two farewells while packets come
_JOINED = 4  # datagrams from which it pays to join them
_WRAP = 0xFFFF_FFFF  # ENet's counters have 32 bits
_Packet, _UNSEQUENCED, _RECEIVE = enet.Packet, enet.PACKET_FLAG_UNSEQUENCED, enet.EVENT_TYPE_RECEIVE


@dataclass(slots=True)
class LinkStats:
    """Counters since the link was made."""

    connections: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    packets_refused: int = 0  # the carrier did not send them
    datagrams_sent: int = 0
    datagrams_received: int = 0  # and passed to ENet
    datagrams_rejected: int = 0  # from the peer: not what a link sends
    datagrams_withheld: int = 0  # from ENet: not what a link sends


class EnetLink:
    """One ENet connection to one peer. A `Link`.

    `send` takes one datagram with `header` in front, in a buffer that is reused after the call. It
    returns False if the datagram could not be sent. A datagram has at most `mtu` bytes without the
    header. `send_from` is the same for a C pointer and a length. Datagrams that the filter stops are
    logged with `notice`.
    """

    def __init__(
        self,
        send: Callable[[memoryview], bool],
        header: bytes,
        mtu: int,
        notice: Notice,
        send_from: Callable[[Any, int], bool] | None = None,
    ) -> None:
        self.stats = LinkStats()
        self.owner: LinkOwner | None = None  # who is told of events; None after `close`
        self._mtu = mtu
        self._send = send
        self._send_from = send_from
        self._notice = notice
        self._filter = Filter(connecting=False)
        self._up = False
        self._greeting = b""  # this side's part of the handshake, once ENet wrote it
        self._farewell = b""
        self._queued: list[int] = []  # the sizes of the packets in ENet that it has not sent
        self._written = 0  # datagrams that ENet wrote, when last read
        self._waiting = 0  # datagrams in `_inbox`
        self._ready = False  # datagrams were handled, and the owner was not told of their end yet
        self._refused = 0  # packets since the last `flush`
        self._freed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self.heard = self._began = self._greeted = self._loop.time()
        self._left = self._loop.time()  # when the last farewell left; `_began` when the first one did
        self._host: enet.Host | None = enet.Host(enet.Address(b"127.0.0.1", 0), 1, CHANNELS, 0, 0)
        self._peer: enet.Peer = self._host.peers[0]
        self._shim = join(self._host)
        self._cork = Cork(self._host.socket.fileno())
        self._is_calm = False  # ENet sends nothing by itself
        self._settled = False  # nothing of the handshake is left to be sent, and datagrams can be joined
        self._outbox = Batch(self._shim, mtu, header)
        self._inbox = Batch(self._shim, mtu)

    @property
    def is_over(self) -> bool:
        """Whether the link has ended and everything was freed."""
        return self._host is None

    # The owner's calls

    def start(self, owner: LinkOwner, *, connect: bool) -> None:
        """Begin. With `connect` this side sends CONNECT; otherwise it waits for the peer's."""
        self.owner = owner
        self._filter = Filter(connecting=connect)
        if self._host is None:
            return
        if connect:
            address = enet.Address(b"127.0.0.1", self._shim.getsockname()[1])
            self._peer = self._host.connect(address, CHANNELS, 0)
        self._is_calm = exports.set_patience(self._peer, _TIMEOUT)
        self._service()
        self._arm()

    def hand_over(self, owner: LinkOwner) -> None:
        """Make another owner the one that is told of events."""
        self.owner = owner

    def send(self, packet: bytes) -> None:
        """Queue one packet of 1 to 1343 bytes. It is dropped if the link is not up."""
        if not self._up:
            return
        if not 0 < len(packet) <= PACKET_SIZE:
            raise ValueError(f"a packet of {len(packet)} bytes, expected 1 to {PACKET_SIZE}")
        self._peer.send(0, _Packet(packet, _UNSEQUENCED))
        self._queued.append(len(packet))
        if len(self._queued) == MOST:
            self._push()

    def flush(self) -> int:
        """Send what was queued. Returns how many of the packets since the last call were refused.

        Those are the last ones: after one that was refused, no other is tried.
        """
        if self._queued:
            self._push()
        refused, self._refused = self._refused, 0
        return refused

    def close(self, farewell: bytes = b"") -> None:
        """End the link; see `Link`. The farewell takes a second at most."""
        self.owner = None
        if self._host is None or self._farewell:
            return
        if not (self._up and farewell):
            self._end()
            return
        self._farewell = farewell
        self._began = self._loop.time()
        self._take_leave()
        self._arm()

    async def closed(self) -> None:
        """Wait until everything is freed."""
        await self._freed.wait()

    def fail(self, reason: LinkEnd) -> None:
        """Free everything and tell the owner. The peer is not told."""
        owner, self.owner = self.owner, None
        self._free()
        if owner is not None:
            owner.link_down(reason)

    # The carrier's calls

    def datagram_received(self, packet: memoryview, at: int = 0) -> None:
        """One datagram came from the peer: `packet` from `at`. ENet handles it at `batch_ended`."""
        if self._host is None:
            return
        datagram = packet[at:]
        if not is_packet(packet, at, len(datagram)) and not self._filter.incoming(datagram):
            self.stats.datagrams_rejected += 1
            self._notice("dropped a datagram of %d bytes that no link sends", len(datagram))
            return
        self._inbox.put(self._waiting, datagram)
        self._waiting += 1
        if self._waiting == MOST:
            self._service()

    def batch_ended(self) -> None:
        """No more datagrams came for now."""
        if self._waiting:
            self._service()
        ready, self._ready = self._ready, False
        if ready and self.owner is not None:
            self.owner.link_ready()

    # ENet

    def _service(self) -> None:
        """Give ENet the datagrams that came. It checks its timeouts and sends. Pass its packets on."""
        host: Any = self._host
        count = self._waiting
        if host is None:
            return
        self._waiting = 0
        if count:
            self._ready = True
            self.heard = self._loop.time()
            self.stats.datagrams_received += count
            self._inbox.send(count)
        try:
            while (event := host.service(0, True)) is not None:
                while event is not None and event.type == _RECEIVE:
                    self._packet_received(event.packet.data)
                    event = None if self.is_over else host.check_events()
                if event is not None and event.type == enet.EVENT_TYPE_CONNECT:
                    self._connected()
                elif event is not None and event.type == enet.EVENT_TYPE_DISCONNECT:
                    self.fail(LinkEnd.PEER_ENDED)
                if event is None or self.is_over:
                    break
        except OSError as error:
            log.debug("ENet failed: %s", error)
            self.fail(LinkEnd.FAILED)
        self._drain()
        self._settled = self._up and self._is_calm and self._cork.works
        if count and not self._up:
            self._greet(_LEAST_REPEAT)  # the peer repeats itself: this side's part was lost

    def _packet_received(self, packet: bytes) -> None:
        self.stats.packets_received += 1
        if self.owner is not None:
            self.owner.packet_received(packet)
        elif self._farewell and self._loop.time() >= self._left + _LEAST_FAREWELL:
            self._take_leave()  # the peer does not know yet

    def _connected(self) -> None:
        # Not earlier: VERIFY_CONNECT compares the throttle's settings with those of CONNECT.
        self._peer.packetThrottleDeceleration = 0
        exports.open_throttle(self._peer)
        self._up = True
        self.stats.connections += 1
        self._arm()
        if self.owner is not None:
            self.owner.link_up()

    def _push(self) -> None:
        """Make ENet send what is queued."""
        sizes, self._queued = self._queued, []
        if self._host is None:
            return
        if self._settled and len(sizes) >= _JOINED and (size := _alone(sizes)):
            self._cork.begin(size)
            try:
                self._host.flush()
            finally:
                self._cork.end()
            if not self._drain():  # this system takes the option and cannot do it
                self._cork.works = self._settled = False
        else:
            self._host.flush()
            self._drain()

    def _drain(self) -> bool:
        """Send on what ENet has written to the shim. Returns whether all of it was there."""
        if self._host is None:
            return True
        written = self._host.totalSentPackets
        left, self._written = (written - self._written) & _WRAP, written
        outbox, stats, send, send_from = self._outbox, self.stats, self._send, self._send_from
        buffer, starts, header = outbox.buffer, outbox.starts, outbox.header
        while left > 0 and (lengths := outbox.receive(min(left, MOST))):
            left -= len(lengths)
            for number, length in enumerate(lengths):
                packets = 1 if is_packet(buffer, starts[number], length) else self._checked(number, length)
                if packets is None:
                    continue
                if packets and self._refused:
                    sent = False
                elif send_from is not None:
                    sent = send_from(outbox.pointers[number], header + length)
                else:
                    sent = send(outbox.slots[number][: header + length])
                if sent:
                    stats.datagrams_sent += 1
                    stats.packets_sent += packets
                else:
                    stats.packets_refused += packets
                    self._refused += packets
        return bool(left <= 0)

    def _checked(self, number: int, length: int) -> int | None:
        """How many packets are in a datagram that ENet wrote; None if it is none that a link sends."""
        slot, end = self._outbox.slots[number], self._outbox.header + length
        datagram = slot[self._outbox.header : end]
        if connect.is_connect(datagram):
            connect.clamp_mtu(datagram, self._mtu)
        packets = self._filter.outgoing(datagram)
        if packets is None:
            self.stats.datagrams_withheld += 1
            self._notice("withheld %d bytes that ENet wrote: not what a link sends", length)
        elif not self._up:
            self._greeting = bytes(slot[:end])
            self._greeted = self._loop.time()
        return packets

    # Time

    def _greet(self, pause: float) -> None:
        """Repeat this side's part of the handshake, if the last time is at least `pause` seconds ago."""
        now = self._loop.time()
        if self._greeting and now >= self._greeted + pause:
            self._greeted = now
            self._send(memoryview(self._greeting))

    def _take_leave(self) -> None:
        self._left = self._loop.time()
        self.send(self._farewell)
        self.flush()

    def _arm(self) -> None:
        """Set the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._host is not None:
            self._timer = self._loop.call_at(self._due(), self._wake)

    def _due(self) -> float:
        now = self._loop.time()
        if self._farewell:
            return next((due for due in self._ends() if due > now), now)
        if not self._up:
            return now + _REPEAT
        return max(self.heard + _QUIET, now + _QUIETER)

    def _ends(self) -> list[float]:
        """When farewells are due, and the end."""
        return [self._began + pause for pause in (*_FAREWELLS, _LINGER)]

    def _wake(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._farewell:
            if now >= self._began + _LINGER:
                self._end()
                return
            self._take_leave()
        elif not self._up:
            if now >= self._began + MEETING:
                self.fail(LinkEnd.UNANSWERED)
                return
            self._greet(0)
        elif now >= self.heard + SILENCE:
            self.fail(LinkEnd.SILENT)
            return
        elif now >= self.heard + _QUIET:
            self._peer.ping()
            self._service()
        self._arm()

    # The end

    def _end(self) -> None:
        """Tell the peer, and free everything."""
        if self._up:
            self._peer.disconnect_now(0)
            self._drain()
        self._free()

    def _free(self) -> None:
        self._up = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._shim.close()
        self._peer = None  # it points into the host's memory
        self._host = None
        self._freed.set()


def _alone(sizes: list[int]) -> int:
    """The size of ENet's datagrams for packets of these sizes, if they can be joined; else 0.

    ENet puts two packets into one datagram where they fit.
    """
    size = segments(sizes)
    return size + PACKET_AT if size + sizes[-1] + 2 * PACKET_AT > MTU else 0
