"""ENet over a datagram function.

ENet needs a UDP socket of its own. It gets one on loopback, connected to a second socket of this
process, the shim. The shim is connected back, so the kernel drops what other processes send to
either. The pair only serves as a queue: the shim is written when datagrams came from the peer, and
read after ENet has written, so neither socket is polled.

    packets -> ENet -> [its socket] -> [shim] -> send(header + datagram)
    packets <- ENet <- [its socket] <- [shim] <- datagram_received

ENet makes the connection, keeps it alive with pings, ends it, and carries unsequenced packets. What is
lost is not its matter. A filter stands between it and the peer, whom ENet would trust. This module
does not wait for ENet's timeouts, which double: it repeats its part of the handshake by itself, and
pings a silent peer by itself. It ends a silent link before ENet would.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

import cffi
import enet

from toxproxy.link import exports
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.filter import MTU, PACKET_AT, is_packet, lower_mtu, packets_in
from toxproxy.link.shim import join
from toxproxy.pace import Notice
from toxproxy.system.batch import MOST, Batch, Cork, segments
from toxproxy.timer import Timer

log = logging.getLogger(__name__)

CHANNELS = 1
BARE = 0x80  # added to the header's last byte: a packet follows, after its group
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
_MOST_BACKLOG = 2048  # datagrams that wait to be handled; more are dropped, as by a full socket
_BATCHES = 4  # of the backlog that are handled together
_JOINED = 4  # datagrams from which it pays to join them
_WRAP = 0xFFFF_FFFF  # ENet's counters have 32 bits
_GROUP, _GROUP_AT = 2, 6  # bytes of a packet's group, and where they are in a datagram with one packet
_CUT = PACKET_AT - _GROUP  # bytes of a datagram with one packet that do not travel
_NOBODY = LinkOwner()
_Packet, _UNSEQUENCED, _RECEIVE = enet.Packet, enet.PACKET_FLAG_UNSEQUENCED, enet.EVENT_TYPE_RECEIVE
_ffi = cffi.FFI()


class EnetLink:
    """One ENet connection to one peer. Packets may be lost, come twice, and in any order.

    `send` takes a datagram with `header` in front: a C pointer (`uint8_t *`), valid during the call only,
    and a length. It returns False if the datagram could not be sent. Datagrams that the filter stops are
    logged with `notice`. Raises `OSError` or `MemoryError` if the system has no socket or memory for it.
    """

    def __init__(
        self, send: Callable[[Any, int], bool], header: bytes, notice: Notice, *, connecting: bool
    ) -> None:
        self.owner = _NOBODY  # who is told of events; nobody after `close`
        self._send = send
        self._notice = notice
        self._connecting = connecting
        self._up = False
        self._greeting: Any = b""  # this side's part of the handshake, once ENet wrote it
        self._farewell = b""
        self._queued: list[int] = []  # the sizes of the packets in ENet that it has not sent
        self._written = 0  # datagrams that ENet wrote, when last read
        # What came and was not handled. libtoxcore reads its socket until that is empty, which never happens
        # while packets come faster than they are handled: so those beyond some batches are handled later.
        self._backlog: deque[bytes] = deque()
        self._rest = Timer(self.batch_ended)
        self._refused = 0  # packets since the last `flush`
        self.freed = asyncio.Event()  # the link has ended, and everything was freed
        self._timer = Timer(self._wake)
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._said = self._began  # when the greeting or the farewell left last
        self.heard = self._began  # when a datagram last came
        self._host: Any = enet.Host(enet.Address(b"127.0.0.1", 0), 1, CHANNELS, 0, 0)
        self._shim = join(self._host)
        self._peer: Any = self._host.peers[0]
        if connecting:
            address = enet.Address(b"127.0.0.1", self._shim.getsockname()[1])
            self._peer = self._host.connect(address, CHANNELS, 0)
        self._cork = Cork(self._host.socket.fileno())
        # ENet sends nothing by itself, so that its datagrams can be joined.
        self._joins = exports.set_patience(self._peer, _TIMEOUT) and self._cork.works
        self._outbox = Batch(self._shim, MTU, header)
        self._bare = header[:-1] + bytes((header[-1] | BARE,))
        self._inbox = Batch(self._shim, MTU)

    # The owner's calls

    def start(self, owner: LinkOwner) -> None:
        """Begin: send CONNECT, or wait for the peer's."""
        self.owner = owner
        self._timer.set(_REPEAT)
        self._service()

    def send(self, packet: bytes) -> None:
        """Queue one packet of 1 to `filter.PACKET_SIZE` bytes. It is dropped if the link is not up."""
        if not self._up:
            return
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
        """End the link and free everything. The owner is not called any more.

        A packet `farewell` is sent first, more than once, until the peer ends the link, too, for a second
        at most. Without it the link ends at once.
        """
        self.owner = _NOBODY
        if self._host is None or self._farewell:
            return
        if self._up and farewell:
            self._farewell = farewell
            self._timer.stop()
            for pause in _FAREWELLS:
                self._loop.call_later(pause, self._say)
            self._loop.call_later(_LINGER, self._end)
            self._say()
        else:
            self._end()

    def fail(self, reason: LinkEnd) -> None:
        """Free everything and tell the owner. The peer is not told."""
        owner, self.owner = self.owner, _NOBODY
        self._free()
        owner.link_down(reason)

    # The carrier's calls

    def datagram_received(self, datagram: bytes) -> None:
        """One came from the peer. ENet handles it at `batch_ended` or later."""
        if self._host is None:
            return
        if packets_in(datagram, from_client=not self._connecting) is None:
            self._notice("dropped a datagram of %d bytes that no link sends", len(datagram))
        elif len(self._backlog) < _MOST_BACKLOG:
            self._backlog.append(datagram)

    def batch_ended(self) -> None:
        """No more datagrams came for now. The rest of many is handled after other work of the event loop."""
        if not self._backlog:
            return
        for _ in range(_BATCHES):
            if self._backlog:
                self._service()
        self.owner.link_ready()
        if self._backlog and not self._rest.running:
            self._rest.set(0)

    # ENet

    def _service(self) -> None:
        """Give ENet the datagrams that came. It checks its timeouts and sends. Pass its packets on."""
        host, backlog = self._host, self._backlog
        count = min(len(backlog), MOST)
        for slot in range(count):
            self._inbox.put(slot, backlog.popleft())
        if count:
            self.heard = self._loop.time()
            self._inbox.send(count)
        try:
            while self._host is not None and (event := host.check_events() or host.service(0, True)):
                if event.type == _RECEIVE:
                    self.owner.packet_received(event.packet.data)
                    if self._farewell:  # the peer does not know yet
                        self._say(_LEAST_FAREWELL)
                elif event.type == enet.EVENT_TYPE_CONNECT:
                    self._connected()
                elif event.type == enet.EVENT_TYPE_DISCONNECT:
                    self.fail(LinkEnd.PEER_ENDED)
        except OSError as error:
            log.debug("ENet failed: %s", error)
            self.fail(LinkEnd.FAILED)
        self._drain()
        if count and not self._up:
            self._say(_LEAST_REPEAT)  # the peer repeats itself: this side's part was lost

    def _connected(self) -> None:
        # Not earlier: VERIFY_CONNECT compares the throttle's settings with those of CONNECT.
        self._peer.packetThrottleDeceleration = 0
        exports.open_throttle(self._peer)
        self._host.flush()  # what is left of the handshake; it cannot be joined with packets
        self._up = True
        self._timer.set(_QUIET)
        self.owner.link_up()

    def _push(self) -> None:
        """Make ENet send what is queued."""
        sizes, self._queued = self._queued, []
        if self._joins and len(sizes) >= _JOINED and (size := _alone(sizes)):
            self._cork.begin(size)
            try:
                self._host.flush()
            finally:
                self._cork.end()
            self._joins = self._drain()  # or this system takes the option and cannot do it
        else:
            self._host.flush()
            self._drain()

    def _drain(self) -> bool:
        """Send on what ENet has written to the shim. Returns whether all of it was there."""
        if self._host is None:
            return True
        written = self._host.totalSentPackets
        left, self._written = (written - self._written) & _WRAP, written
        outbox, send = self._outbox, self._send
        buffer, starts, header = outbox.buffer, outbox.starts, outbox.header
        while left > 0 and (lengths := outbox.receive(min(left, MOST))):
            left -= len(lengths)
            for number, length in enumerate(lengths):
                at, pointer = starts[number], outbox.pointers[number]
                packets: int | None = 1
                if is_packet(buffer, at, length):
                    buffer[at + _CUT - header : at + PACKET_AT] = (
                        self._bare + buffer[at + _GROUP_AT : at + _GROUP_AT + _GROUP]
                    )
                    pointer, length = pointer + _CUT, length - _CUT
                else:
                    packets = self._checked(number, length)
                skipped = packets and self._refused
                if packets is not None and (skipped or not send(pointer, header + length)):
                    self._refused += packets
        return bool(left <= 0)

    def _checked(self, number: int, length: int) -> int | None:
        """How many packets are in a datagram that ENet wrote; None if it is none that a link sends."""
        at = self._outbox.starts[number]
        datagram = self._outbox.buffer[at : at + length]
        lower_mtu(datagram)
        packets = packets_in(datagram, from_client=self._connecting)
        if packets is None:
            self._notice("withheld %d bytes that ENet wrote: not what a link sends", length)
        elif not self._up:
            whole = self._outbox.buffer[at - self._outbox.header : at + length]
            self._greeting = _ffi.from_buffer("uint8_t[]", bytes(whole))
            self._said = self._loop.time()
        return packets

    # Time

    def _say(self, pause: float = 0.0) -> None:
        """Send the farewell, or this side's part of the handshake, if the last is `pause` seconds ago."""
        now = self._loop.time()
        if now < self._said + pause:
            return
        self._said = now
        if self._farewell:
            self.send(self._farewell)
            self.flush()
        elif self._greeting:
            self._send(self._greeting, len(self._greeting))

    def _wake(self) -> None:
        now = self._loop.time()
        silent = now - self.heard
        # First of all: should something fail, the link still ends in time.
        self._timer.set(max(_QUIET - silent, _QUIETER) if self._up else _REPEAT)
        if not self._up and now >= self._began + MEETING:
            self.fail(LinkEnd.UNANSWERED)
        elif not self._up:
            self._say()
        elif silent >= SILENCE:
            self.fail(LinkEnd.SILENT)
        elif silent >= _QUIET:
            self._peer.ping()
            self._service()

    # The end

    def _end(self) -> None:
        """Tell the peer, and free everything, whatever fails."""
        try:
            if self._up:
                self._peer.disconnect_now(0)
                self._drain()
        finally:
            self._free()

    def _free(self) -> None:
        self._up = False
        self._greeting = b""
        self._backlog.clear()
        self._queued.clear()
        self._timer.stop()
        self._shim.close()
        self._peer = None  # it points into the host's memory
        self._host = None
        self.freed.set()


def _alone(sizes: list[int]) -> int:
    """The size of ENet's datagrams for packets of these sizes, if they can be joined; else 0.

    ENet puts two packets into one datagram where they fit.
    """
    size = segments(sizes)
    return size + PACKET_AT if size + sizes[-1] + 2 * PACKET_AT > MTU else 0
