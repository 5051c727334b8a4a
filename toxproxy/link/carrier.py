"""Links in one friend's lossy packets, one at a time.

    packet = packet id (1 byte) . epoch (1 byte) . ENet datagram

The epoch tells the datagrams of one ENet connection from those of the last, which may still
be on their way. The connecting side chooses it; the other takes it over with the CONNECT that
brings it, and drops the link it had: ENet connections are disposable.

A new link costs an ENet host and two sockets, so the accepting side makes them at a bounded pace.
A CONNECT of a link that was replaced comes late, and begins nothing. The connecting side takes none.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from toxproxy.link import connect
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.enet import EnetLink
from toxproxy.link.filter import MTU, is_connect
from toxproxy.pace import Notice

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger(__name__)

PACKET_ID = 226  # lossy, free in the public registry of custom packet ids
MAX_PACKET = 1373  # bytes, TOX_MAX_CUSTOM_PACKET_SIZE
HEADER = MAX_PACKET - MTU
LINKS_AT_ONCE = 10  # that the peer may begin …
LINKS_A_SECOND = 2.0  # … and how many more in each second
_REMEMBERED = 64  # links that were replaced


class Carrier:
    """Makes links and gives each the packets that are its own.

    `send` takes one packet (a buffer that is reused) and returns False where it was not sent.
    `own` is called with each new link and returns its owner. The side that is `connecting` begins
    the links, and takes no CONNECT.
    """

    def __init__(
        self,
        send: Callable[[memoryview], bool],
        own: Callable[[EnetLink], LinkOwner],
        *,
        connecting: bool = False,
    ) -> None:
        self.link: EnetLink | None = None
        self._send = send
        self._own = own
        self._epoch = random.randrange(256)
        self._unmade = Notice(log, logging.WARNING)
        self._connecting = connecting
        self._connection: int | None = None  # of the CONNECT that made the link
        self._replaced: deque[int] = deque(maxlen=_REMEMBERED)  # those of earlier links
        self._allowance = _Allowance()
        self._notice = Notice(log)

    def connect(self) -> None:
        """Begin a new link as the side that connects.

        Raises `OSError` or `MemoryError` where the system has not what a link needs.
        """
        self._connecting = True
        self._epoch = (self._epoch + 1) % 256
        self._begin(connect=True)

    async def close(self) -> None:
        """Close the link and wait until it is gone; its owner hears nothing."""
        if self.link is not None:
            self.link.close()
            await self.link.closed()

    def packet_received(self, packet: Buffer) -> None:
        """One lossy packet of ours came from the friend; hostile until proven an ENet datagram."""
        view = memoryview(packet)
        if not HEADER < len(view) <= MAX_PACKET or view[0] != PACKET_ID:
            return
        datagram = view[HEADER:]
        if connect.is_connect(datagram):
            self._connect_received(view[1], bytearray(datagram))
        elif self.link is not None and view[1] == self._epoch:
            self.link.datagram_received(datagram)

    def batch_ended(self) -> None:
        """No more packets came for now."""
        if self.link is not None:
            self.link.batch_ended()

    def _connect_received(self, epoch: int, datagram: bytearray) -> None:
        connect.clamp_mtu(datagram, MTU)
        if self._connecting or not is_connect(datagram):
            self._notice("a CONNECT that is not for this side, or not that of a link")
            return
        asked = epoch << 32 | connect.connect_id(datagram)
        if self.link is None or self.link.is_over or asked != self._connection:
            if asked in self._replaced:
                return
            if not self._allowance.take():
                self._notice("the friend begins links faster than %g a second", LINKS_A_SECOND)
                return
            before, self._epoch = self._epoch, epoch
            try:
                self._begin(connect=False)
            except (OSError, MemoryError) as error:  # the peer asks again
                self._epoch = before
                self._unmade("no link can be made: %s", error)
                return
            if self._connection is not None and asked != self._connection:
                self._replaced.append(self._connection)
            self._connection = asked
        if self.link is not None:
            self.link.datagram_received(datagram)

    def _begin(self, *, connect: bool) -> None:
        old = self.link
        link = self.link = EnetLink(self._send, bytes((PACKET_ID, self._epoch)), MTU, self._notice)
        if old is not None:
            old.fail(LinkEnd.REPLACED)
        try:
            link.start(self._own(link), connect=connect)
        except (OSError, MemoryError) as error:
            log.debug("a link could not be started: %s", error)
            link.fail(LinkEnd.FAILED)


class _Allowance:
    """How many links the peer may begin now: a token bucket."""

    def __init__(self) -> None:
        self._left = float(LINKS_AT_ONCE)
        self._at = 0.0

    def take(self) -> bool:
        """Whether it may begin one; it counts if it may."""
        now = asyncio.get_running_loop().time()
        self._left = min(LINKS_AT_ONCE, self._left + (now - self._at) * LINKS_A_SECOND)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
