"""The datagram that libtoxcore will read next from its UDP socket."""

from __future__ import annotations

from typing import NamedTuple

from toxproxy.address import Address, plain_address
from toxproxy.system import sockets

_REQUESTS = (0x00, 0x02, 0x18)  # NET_PACKET_PING_REQUEST, _GET_NODES and _COOKIE_REQUEST in network.h
_HEAD = 1 + 32  # bytes: the kind of a packet, and in a request the sender's DHT key


class Datagram(NamedTuple):
    """The first bytes of a datagram, and where it says that it came from."""

    head: bytes
    address: Address
    port: int

    @property
    def caller(self) -> bytes | None:
        """The DHT key of the node that sends a request; None if it is none.

        It is not verified: whoever knows the key can send this from an address that is not its own.
        """
        return self.head[1:] if len(self.head) == _HEAD and self.head[0] in _REQUESTS else None


class Ahead:
    """Looks at what waits at a node's UDP socket, and leaves it there. Ask before libtoxcore reads."""

    def __init__(self, descriptor: int) -> None:
        self._socket = sockets.duplicate(descriptor)

    def close(self) -> None:
        """Close this object's own descriptor of the socket."""
        self._socket.close()

    def next(self) -> Datagram | None:
        """The first datagram that waits; None if there is none, or the error of one that was sent."""
        try:
            head, (host, port, *_) = sockets.peek(self._socket, _HEAD)
        except OSError:
            return None
        return Datagram(head, plain_address(host), port)
