"""From which address another node sends requests to this one, seen before libtoxcore reads them."""

from __future__ import annotations

import os
import socket

from toxproxy.address import Address, plain_address

_REQUESTS = (0x00, 0x02)  # NET_PACKET_PING_REQUEST and NET_PACKET_GET_NODES in network.h
_KEY_SIZE = 32  # bytes; the sender's DHT key follows the first byte of a request


class Callers:
    """Looks at the datagram that is the next one at a UDP socket, and leaves it there."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=os.dup(descriptor))

    def close(self) -> None:
        """Close this object's own descriptor of the socket."""
        self._socket.close()

    def next(self) -> tuple[bytes, Address, int] | None:
        """The DHT key, the address and the port that the next datagram names, if it is a request.

        They are not verified: whoever knows the key can send this from an address that is not its own.
        """
        try:
            data, (host, port, *_) = self._socket.recvfrom(
                1 + _KEY_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT
            )
        except OSError:  # above all: there is none
            return None
        if len(data) <= _KEY_SIZE or data[0] not in _REQUESTS:
            return None
        return data[1:], plain_address(host), port
