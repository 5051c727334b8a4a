"""The nodes on this machine's local networks are told where its node is.

libtoxcore tells them, too, but ten ports in ten seconds (`lan_discovery` in friend_connection.c): two nodes
at ports by chance would find each other after up to 100 seconds.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from toxproxy.system.interfaces import broadcasts
from toxproxy.system.sockets import duplicate

_DISCOVERY = b"\x21"  # NET_PACKET_LAN_DISCOVERY; the DHT key follows
_PORTS = range(33445, 33546)  # TOX_PORTRANGE_FROM to TOX_PORTRANGE_TO


class Neighbours:
    """`descriptor` is the UDP socket of the node with this `dht_key`."""

    def __init__(self, descriptor: int, dht_key: bytes) -> None:
        self._socket = duplicate(descriptor)
        self._packet = _DISCOVERY + dht_key

    def close(self) -> None:
        """Close this object's own descriptor of the socket."""
        self._socket.close()

    def call(self) -> None:
        """Send one packet to each port of each local IPv4 network. Who listens asks this node at once."""
        mapped = "::ffff:" if self._socket.family == socket.AF_INET6 else ""
        with suppress(OSError):
            for address in broadcasts():
                with suppress(OSError):  # no way to this one
                    for port in _PORTS:
                        self._socket.sendto(self._packet, (f"{mapped}{address}", port))
