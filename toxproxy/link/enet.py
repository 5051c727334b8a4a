"""ENet over a datagram function.

ENet needs a UDP socket of its own. It gets one on loopback, connected to a second socket of this
process, the shim. The shim is connected back, so the kernel drops what other processes send to
either. The pair only serves as a queue: the shim is written when a datagram came from the peer, and
read after each call of ENet, so neither socket is polled.

    frames -> ENet -> [its socket] -> [shim] -> send(header + datagram)
    frames <- ENet <- [its socket] <- [shim] <- datagram_received

ENet 1.3.17 needs three changes on this carrier. The mtu in CONNECT is clamped, so that datagrams
fit into Tox's packets. The packet throttle is kept open; it would close where the delay varies. A
retransmission timeout does not double without end. When an answer is due and the path is silent for
seconds, the link ends: a new link is faster than the old one's timeouts. ENet trusts its peer, so a
`Filter` stands between them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

import enet

from toxproxy.link import connect, overlay
from toxproxy.link.acks import Repeater
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.congestion import MOST_WINDOW, Controller
from toxproxy.link.filter import Filter
from toxproxy.pace import Notice
from toxproxy.system.sockets import SENDS_TO_NAMED_WHEN_CONNECTED, enlarge

log = logging.getLogger(__name__)

CHANNELS = 255  # ENET_PROTOCOL_MAXIMUM_CHANNEL_COUNT
DEFAULT_WINDOW = 64 * 1024  # ENET_PROTOCOL_MAXIMUM_WINDOW_SIZE: the limit without the overlay
# Bytes; far more than the controller allows. ENet does not count bytes as in transit that its window
# holds back, so they would look delivered.
_WINDOW = 2 * MOST_WINDOW
FRAGMENTS = 8  # datagrams that the largest frame takes
_FRAGMENT_OVERHEAD = 28  # bytes of ENet's headers for each fragment
_BURST = 96 * 1024  # bytes handed to ENet before the shim is read
_BATCH = 64  # datagrams handed to ENet's socket before ENet is called
_PING = 2000  # ms of silence after which ENet sends a PING
_TIMEOUT = 60_000  # ms after which ENet would give up; a silent link ends before that
_PATIENCE = 3.0  # seconds without an answer after which the link ends, or …
_TRIPS = 4  # … so many round trips, if that is longer
_MEETING = 10.0  # seconds that the peer has to answer to a new link
_FOREVER = 3600.0
_LINGER = 1.0  # seconds that a closed link waits for acknowledgements
_BUFFER = 4 * 1024 * 1024  # bytes of a socket's buffers; the kernel may give less


@dataclass(slots=True)
class LinkStats:
    """Counters since the link was made."""

    connections: int = 0
    frames_sent: int = 0
    frames_received: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    datagrams_refused: int = 0  # the carrier did not send them
    datagrams_rejected: int = 0  # from the peer: not what ENet sends, or too far ahead
    datagrams_withheld: int = 0  # from ENet: not what a link sends


class EnetLink:
    """One ENet connection to one peer.

    `send` takes one datagram with `header` in front, in a buffer that is reused after the call. It
    returns False if the datagram could not be sent. A datagram has at most `mtu` bytes without the
    header. Datagrams that the filter stops are logged with `notice`.
    """

    channels = CHANNELS

    def __init__(self, send: Callable[[memoryview], bool], header: bytes, mtu: int, notice: Notice) -> None:
        self.stats = LinkStats()
        self.frame_size = FRAGMENTS * (mtu - _FRAGMENT_OVERHEAD)
        self._mtu = mtu
        self._send = send
        self._notice = notice
        self._filter = Filter(connecting=False)
        self._out = memoryview(bytearray(header + bytes(mtu)))
        self._body = self._out[len(header) :]
        self._header = len(header)
        self._waiting = 0  # datagrams in ENet's socket
        self._queued = 0  # bytes of frames handed to ENet since the last flush
        self.owner: LinkOwner | None = None  # who is told of events; None after `close`
        self._up = False
        self._close_by: float | None = None
        self._freed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._asked = self._heard = self._loop.time()  # an answer is due since; last heard
        self._host: enet.Host | None = enet.Host(enet.Address(b"127.0.0.1", 0), 1, CHANNELS, 0, 0)
        self._peer: enet.Peer = self._host.peers[0]
        self._fields = overlay.attach(self._peer)
        self._control = Controller(self._loop.time())
        self._trip: float | None = None  # seconds, if measured since ENet was last called
        self._lost = 0  # ENet's count of retransmissions, when last read
        self._acks = Repeater()
        self._shim = _join(self._host)

    @property
    def is_over(self) -> bool:
        """Whether the link has ended and everything was freed."""
        return self._host is None

    # The owner's calls

    def start(self, owner: LinkOwner, *, connect: bool) -> None:
        """Begin. With `connect` this side sends CONNECT; otherwise it waits for the peer's."""
        self.owner = owner
        self._filter = Filter(connecting=connect)
        if connect and self._host is not None:
            address = enet.Address(b"127.0.0.1", self._shim.getsockname()[1])
            self._peer = self._host.connect(address, CHANNELS, 0)
            self._configure()
            self._service()

    def hand_over(self, owner: LinkOwner) -> None:
        """Make another owner the one that is told of events."""
        self.owner = owner

    def budget(self) -> int:
        """How many bytes of frames may be sent now, at most one burst."""
        if not self._up:
            return 0
        in_flight: int = self._peer.reliableDataInTransit
        allowance = self._control.allowance(self._loop.time(), in_flight)
        if self._fields is None:
            allowance = min(allowance, DEFAULT_WINDOW - in_flight)
        return min(allowance, _BURST)

    def send(self, channel: int, frame: bytes) -> None:
        """Queue one frame in ENet."""
        self._peer.send(channel, enet.Packet(frame, enet.PACKET_FLAG_RELIABLE))
        self._queued += len(frame)
        self.stats.frames_sent += 1

    def flush(self) -> None:
        """Send what was handed over."""
        if self._host is not None:
            if not self._peer.reliableDataInTransit:
                self._asked = self._loop.time()
            self._control.sent(self._loop.time(), self._queued)
            self._queued = 0
            self._host.flush()
            self._drain()
            self._arm()

    def close(self) -> None:
        """Wait until the peer has acknowledged everything, a second at most; then disconnect and free all.

        An ENet that reads DISCONNECT drops frames that it has not delivered yet. Without the wait, the
        last frames, which say why the session ended, would be lost.
        """
        self.owner = None
        if self._up and self._close_by is None:
            self._close_by = self._loop.time() + _LINGER
            self._service()
        elif not self._up:
            self._free()

    async def closed(self) -> None:
        """Wait until everything is freed."""
        await self._freed.wait()

    # The carrier's calls

    def datagram_received(self, datagram: bytes | bytearray | memoryview) -> None:
        """One datagram came from the peer. ENet handles it at `batch_ended` at the latest."""
        if self._host is None:
            return
        self.stats.datagrams_received += 1
        allowed = self._filter.incoming(datagram)
        if allowed < len(datagram):
            self.stats.datagrams_rejected += 1
            self._notice("dropped %d bytes: not what ENet sends, or too far ahead", len(datagram) - allowed)
            if not allowed:
                return
            datagram = datagram[:allowed]
        if not self._waiting:  # the others of a batch come at the same time
            self._heard = self._loop.time()
            if self._fields is not None:
                self._trip = connect.round_trip(datagram, self._fields.now())
        try:
            self._shim.send(datagram)
        except OSError:
            return  # as if it was lost on the path
        self._waiting += 1
        if self._waiting >= _BATCH or not self._up:  # before that, the filter takes one at a time
            self._service()

    def batch_ended(self) -> None:
        """No more datagrams came for now."""
        if self._waiting:
            self._service()
        self._offer()

    def fail(self, reason: LinkEnd) -> None:
        """Free everything and tell the owner. The peer is not told."""
        owner, self.owner = self.owner, None
        self._free()
        if owner is not None:
            owner.link_down(reason)

    # ENet

    def _service(self) -> None:
        """Call ENet: it reads its socket, checks its timeouts and sends. Deliver the frames that came."""
        self._waiting = 0
        host, stats = self._host, self.stats
        try:
            while host is not None and (event := host.service(0, True)) is not None:
                if event.type == enet.EVENT_TYPE_RECEIVE:
                    stats.frames_received += 1
                    frame = event.packet.data
                    if self.owner is not None:
                        self.owner.frame_received(event.channelID, frame)
                elif event.type == enet.EVENT_TYPE_CONNECT:
                    self._connected(event.peer)
                elif event.type == enet.EVENT_TYPE_DISCONNECT:
                    self.fail(LinkEnd.PEER_ENDED)
                host = self._host
        except OSError as error:
            log.debug("ENet failed: %s", error)
            self.fail(LinkEnd.FAILED)
        if self._host is not None:
            self._drain()
            self._measure()
            self._close_if_due()
            self._fail_if_silent()
        if self._host is not None:
            self._arm()

    def _measure(self) -> None:
        """Tell the controller what was delivered, and adjust ENet's window and timeouts."""
        if not self._up:
            self._ask_again()
            return
        heard = self._trip is not None
        self._control.delivered(self._loop.time(), self._peer.reliableDataInTransit, self._trip)
        self._trip = None
        if self._fields is not None:
            peer = self._fields.struct
            peer.windowSize = _WINDOW  # BANDWIDTH_LIMIT resets it
            # ENet retransmits after a round trip and four variances. On a steady path that is so
            # close to the round trip that each short queue would cause needless retransmissions.
            least = int(self._control.spread * 1000 / 4)
            if peer.roundTripTimeVariance < least:
                peer.roundTripTimeVariance = least
            if heard:  # the peer is there, so packets were lost by chance
                self._ask_again()

    def _ask_again(self) -> None:
        """After a retransmission, the next one is due as soon as after a first transmission."""
        if self._fields is not None and self._peer.packetsLost != self._lost:
            self._lost = self._peer.packetsLost
            self._fields.forget_doubling()

    @property
    def _silent_at(self) -> float:
        """When the link ends if nothing comes until then, by the loop's clock."""
        if not self._up:
            return self._asked + _MEETING
        patience = max(_PATIENCE, _TRIPS * self._control.base)
        if self._peer.reliableDataInTransit:
            return max(self._asked, self._heard) + patience
        return self._heard + _PING / 1000 + patience

    def _fail_if_silent(self) -> None:
        if self.owner is not None and self._host is not None and self._loop.time() >= self._silent_at:
            self.fail(LinkEnd.SILENT if self._up else LinkEnd.UNANSWERED)

    def _close_if_due(self) -> None:
        if self._close_by is None or self._host is None:
            return
        if self._peer.reliableDataInTransit and self._loop.time() < self._close_by:
            return
        self._peer.disconnect_now(0)
        self._host.flush()
        self._drain()
        self._free()

    def _connected(self, peer: enet.Peer) -> None:
        self._peer = peer
        self._configure()
        # Not earlier: VERIFY_CONNECT compares the throttle's settings with those of CONNECT.
        peer.packetThrottleDeceleration = 0
        if self._fields is not None:  # the owner may send before the first measurement
            self._fields.struct.windowSize = _WINDOW
        self._up = self._filter.up = True
        self.stats.connections += 1
        if self.owner is not None:
            self.owner.link_up()

    def _configure(self) -> None:
        if self._fields is not None:
            self._fields.set_timeout(_TIMEOUT, _TIMEOUT, _TIMEOUT)
            self._fields.set_ping_interval(_PING)

    def _drain(self) -> None:
        """Send what ENet has written to the shim."""
        receive, send, stats, now = self._shim.recv_into, self._send, self.stats, self._loop.time()
        try:
            while True:
                length = receive(self._body)
                datagram, packet = self._body, self._out
                if length < self._mtu:
                    if not self._up and connect.is_connect(datagram[:length]):
                        connect.clamp_mtu(datagram, self._mtu)
                    length = self._acks.repeat(datagram, length, now)
                    datagram, packet = datagram[:length], packet[: self._header + length]
                if not self._filter.outgoing(datagram):
                    stats.datagrams_withheld += 1
                    self._notice("withheld %d bytes that ENet wrote: not what a link sends", length)
                elif send(packet):
                    stats.datagrams_sent += 1
                else:
                    stats.datagrams_refused += 1
        except BlockingIOError:
            pass

    def _arm(self) -> None:
        """Set the timer for ENet's next timeout or PING, the pace, or the end of a silent link."""
        due = self._loop.time() + min(self._delay(), self._pause())
        due = min(due, self._silent_at if self._close_by is None else self._close_by)
        if self._timer is not None:
            if self._wakes_at <= due:
                return
            self._timer.cancel()
        self._wakes_at = due  # kept here, since uvloop's timers do not always know it
        self._timer = self._loop.call_at(due, self._wake)

    def _pause(self) -> float:
        """Seconds until the pace allows more; `_FOREVER` if the pace is not what holds the owner back."""
        if not self._up or self._peer.reliableDataInTransit >= self._control.window:
            return _FOREVER
        return self._control.pause() or _FOREVER

    def _delay(self) -> float:
        """Seconds until ENet must be called."""
        peer = self._peer
        if self._fields is None:
            return 0.01 if peer.reliableDataInTransit else 0.1
        now = self._fields.now()
        milliseconds = _until(peer.nextTimeout, now)
        if milliseconds <= 0:  # nothing is in flight: the next PING is due
            milliseconds = _until(peer.lastReceiveTime + _PING, now)
        return max(1, milliseconds) / 1000

    def _wake(self) -> None:
        self._timer = None
        self._service()
        self._offer()

    def _offer(self) -> None:
        """Let the owner send, and tell the controller if it does not use the whole budget."""
        if self.owner is None:
            return
        self.owner.link_ready()
        if self.budget() > 0:
            self._control.left_room(self._peer.reliableDataInTransit)

    def _free(self) -> None:
        self._up = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._shim.close()
        self._fields = None
        self._peer = None  # it points into the host's memory
        self._host = None
        self._freed.set()


def _until(moment: int, now: int) -> int:
    """Milliseconds from `now` to `moment` on a 32-bit clock; negative if it has passed."""
    return (moment - now + 0x8000_0000) % 0x1_0000_0000 - 0x8000_0000


def _join(host: enet.Host) -> socket.socket:
    """The shim: a socket that is connected to the host's socket, and that to it."""
    shim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shim.setblocking(False)
    shim.bind(("127.0.0.1", 0))
    shim.connect(("127.0.0.1", host.address.port))
    enlarge(shim, _BUFFER)
    with socket.socket(fileno=os.dup(host.socket.fileno())) as own:
        enlarge(own, _BUFFER)
        if SENDS_TO_NAMED_WHEN_CONNECTED:
            own.connect(shim.getsockname())
    return shim
