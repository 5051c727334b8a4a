"""Links in one friend's lossy packets, one at a time.

    packet = packet id (1 byte) . epoch (1 byte) . ENet datagram

The epoch tells the datagrams of one ENet connection from those of the last, which may still
be on their way. The connecting side chooses it; the other takes it over with the CONNECT that
brings it, and drops the link it had: ENet connections are disposable.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from toxproxy.link import connect
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.enet import EnetLink
from toxproxy.pace import Notice

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger(__name__)

PACKET_ID = 226  # lossy, free in the public registry of custom packet ids
MAX_PACKET = 1373  # bytes, TOX_MAX_CUSTOM_PACKET_SIZE
HEADER = 2
MTU = MAX_PACKET - HEADER  # bytes of an ENet datagram


class Carrier:
    """Makes links and gives each the packets that are its own.

    `send` takes one packet (a buffer that is reused) and returns False where it was not sent.
    `own` is called with each new link and returns its owner.
    """

    def __init__(self, send: Callable[[memoryview], bool], own: Callable[[EnetLink], LinkOwner]) -> None:
        self.link: EnetLink | None = None
        self._send = send
        self._own = own
        self._epoch = random.randrange(256)
        self._unmade = Notice(log, logging.WARNING)
        self._connection: int | None = None  # of the CONNECT that made the link

    def connect(self) -> None:
        """Begin a new link as the side that connects.

        Raises `OSError` or `MemoryError` where the system has not what a link needs.
        """
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
        asked = epoch << 32 | connect.connect_id(datagram)
        if self.link is None or self.link.is_over or asked != self._connection:
            before, self._epoch = self._epoch, epoch
            try:
                self._begin(connect=False)
            except (OSError, MemoryError) as error:  # the peer asks again
                self._epoch = before
                self._unmade("no link can be made: %s", error)
                return
            self._connection = asked
        connect.clamp_mtu(datagram, MTU)
        if self.link is not None:
            self.link.datagram_received(datagram)

    def _begin(self, *, connect: bool) -> None:
        old = self.link
        link = self.link = EnetLink(self._send, bytes((PACKET_ID, self._epoch)), MTU)
        if old is not None:
            old.fail(LinkEnd.REPLACED)
        try:
            link.start(self._own(link), connect=connect)
        except (OSError, MemoryError) as error:
            log.debug("a link could not be started: %s", error)
            link.fail(LinkEnd.FAILED)
