"""Carries links in the lossy packets of one friend, one link at a time.

    packet = packet id (1 byte) . epoch (1 byte) . ENet datagram
           or packet id (1 byte) . BARE + epoch (1 byte) . group (2 bytes) . ENet packet

The second is a datagram that carries one packet and nothing else, without what ENet writes in front of each.
The epoch distinguishes the datagrams of one ENet connection from those of the last one, which may
still arrive. The connecting side chooses it. The accepting side adopts the epoch of a CONNECT, and
replaces its link.

A new link takes an ENet host and two sockets, so the accepting side limits how many the peer may
begin. It ignores a late CONNECT of a link that was replaced. The connecting side ignores every CONNECT.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.enet import BARE, EnetLink
from toxproxy.link.filter import MTU, alone, connect_id
from toxproxy.pace import Notice, TokenBucket

if TYPE_CHECKING:
    from typing_extensions import Buffer

log = logging.getLogger(__name__)

PACKET_ID = 226  # lossy, free in the public registry of custom packet ids
MAX_PACKET = 1373  # bytes, TOX_MAX_CUSTOM_PACKET_SIZE
HEADER = MAX_PACKET - MTU
_EPOCHS = BARE  # how many there are
LINKS_AT_ONCE = 10  # that the peer may begin at once …
LINKS_A_SECOND = 2.0  # … and how many more each second
_REMEMBERED = 65  # CONNECTs that are remembered: the present link's, and 64 of replaced ones


class Carrier:
    """Creates links and passes each the packets of its epoch.

    `send` takes one packet: a C pointer (`uint8_t *`), valid during the call only, and a length. It
    returns False if the packet was not sent. `own` is called with each new link and returns its owner.
    The side that is `connecting` begins the links, and takes no CONNECT.
    """

    def __init__(
        self,
        send: Callable[[Any, int], bool],
        own: Callable[[EnetLink], LinkOwner],
        *,
        connecting: bool = False,
    ) -> None:
        self.link: EnetLink | None = None
        self._send = send
        self._own = own
        self._epoch = random.randrange(_EPOCHS)
        self._unmade = Notice(log, logging.WARNING)
        self._connecting = connecting
        self._closed = False
        # Epoch and connect id of the CONNECTs that began a link. The last one is the present link's.
        self._asked: deque[tuple[int, bytes]] = deque(maxlen=_REMEMBERED)
        self._allowance = TokenBucket(LINKS_AT_ONCE, LINKS_A_SECOND)
        self._notice = Notice(log)

    def connect(self) -> bool:
        """Begin a new link as the side that connects. False if the system has no socket or memory for it."""
        return self._begin((self._epoch + 1) % _EPOCHS)

    async def close(self) -> None:
        """Close the link and wait until it is freed. Its owner is not told. No other link begins."""
        self._closed = True
        if self.link is not None:
            self.link.close()
            await self.link.freed.wait()

    def packet_received(self, packet: Buffer) -> None:
        """One lossy packet came from the friend. It is not trusted; the link's filter checks it."""
        view = memoryview(packet)
        if not HEADER < len(view) <= MAX_PACKET or view[0] != PACKET_ID:
            return
        epoch, datagram = view[1] & ~BARE, bytes(view[HEADER:])
        if view[1] & BARE:
            datagram = alone(datagram)
        elif (connection := connect_id(datagram)) is not None:
            self._connect_received((epoch, connection), datagram)
            return
        if self.link is not None and epoch == self._epoch:
            self.link.datagram_received(datagram)

    def batch_ended(self) -> None:
        """The packets that had come were all passed on."""
        if self.link is not None:
            self.link.batch_ended()

    def _connect_received(self, asked: tuple[int, bytes], datagram: bytes) -> None:
        if self._connecting or self._closed:
            self._notice("dropped a CONNECT: this side takes none")
            return
        if asked not in self._asked:
            if not self._allowance.take():
                self._notice("the friend begins links faster than %g a second", LINKS_A_SECOND)
                return
            if not self._begin(asked[0]):
                return  # the peer repeats its CONNECT
            self._asked.append(asked)
        if self.link is not None and asked == self._asked[-1]:  # not a late one of a link that was replaced
            self.link.datagram_received(datagram)

    def _begin(self, epoch: int) -> bool:
        header = bytes((PACKET_ID, epoch))
        try:
            link = EnetLink(self._send, header, self._notice, connecting=self._connecting)
        except (OSError, MemoryError) as error:
            self._unmade("no link can be made: %s; the client tries again", error)
            return False
        old, self.link, self._epoch = self.link, link, epoch
        if old is not None:
            old.fail(LinkEnd.REPLACED)
        link.start(self._own(link))
        return True
