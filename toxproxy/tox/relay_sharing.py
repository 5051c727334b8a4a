"""Makes libtoxcore tell a friend of this node's relays, also if there are few."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

from toxproxy.tox.pytox import Tox, ToxError

_SHARED = 3  # relays that libtoxcore tells a friend of at once (MAX_SHARED_RELAYS in friend_connection.h)
_SECONDS = 12.0  # libtoxcore drops a relay that it did not reach within 10 s (TCP_CONNECTION_TIMEOUT)
_KEY_SIZE = 32  # bytes


class RelaySharing:
    """Two ends can go on at once when a relay dies, if each uses another relay for the other, too. And
    those that are connected directly, when UDP is blocked, if they have a relay for each other at all: from
    0.2.22 on (`tcp_relay_node_callback` in friend_connection.c) they have none from before they met.

    libtoxcore tells a friend of its relays when they meet, but never if it has three or fewer: the loop in
    `tcp_copy_connected_relays_index` (TCP_connection.c, 0.2.12 to 0.2.22) ends where it begins. So it is
    given more for a few seconds, to which it cannot connect. It takes three at a time out of its list, so
    the list is made six long: the first three have all that is there. It tells of none that it did
    not reach.
    """

    def __init__(self, tox: Tox) -> None:
        self._tox = tox
        self._sockets: list[socket.socket] = []

    def friend_met(self, relays: int) -> None:
        """A friend has been connected. This node uses so many relays."""
        if self._sockets or not 1 <= relays <= _SHARED:
            return
        with suppress(OSError, ToxError):  # without this, a relay's death takes half a minute
            self._open()
            asyncio.get_running_loop().call_later(_SECONDS, self.close)
            for _ in range(2 * _SHARED - relays):
                host, port = self._sockets[0].getsockname()
                self._tox.add_tcp_relay(host, port, os.urandom(_KEY_SIZE).hex())

    def close(self) -> None:
        """Free the port. libtoxcore has dropped what it could not reach."""
        while self._sockets:
            self._sockets.pop().close()

    def _open(self) -> None:
        """Listen at a port of this machine that never answers: its queue has room for one connection."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._sockets.append(first)
        first.setblocking(False)
        first.connect_ex(listener.getsockname())
