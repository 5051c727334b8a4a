"""What routers announce unasked: that they were restarted, or have another address.

They send it to UDP port 5350 of 224.0.0.1 (RFC 6886, section 3.2.1; RFC 6887, section 14.1).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from toxproxy.mapping import natpmp, pcp
from toxproxy.mapping.grant import MappingError

_GROUP, _PORT = "224.0.0.1", 5350


@dataclass(frozen=True, slots=True)
class Announced:
    """A router's clock and, where NAT-PMP told it, its external address."""

    epoch: int
    address: IPv4Address | None = None


def parse_announcement(data: bytes) -> Announced | None:
    """An announcement of either protocol, or None for another datagram."""
    if (epoch := pcp.parse_announced(data)) is not None:
        return Announced(epoch)
    try:
        found = natpmp.parse_address(data)
    except MappingError:
        return None
    return Announced(found.epoch, found.address) if found is not None else None


class _Listener(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[str, Announced], None]) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (announced := parse_announcement(data)) is not None:
            self._heard(addr[0], announced)


async def listen(heard: Callable[[str, Announced], None]) -> asyncio.DatagramTransport | None:
    """Call `heard` with the sender's address and what it announces, until the transport is closed.

    Anybody in the local network can send such a datagram: it is a hint and no more. The socket is bound
    to the group, so that nothing is received that was sent to this machine's own address. None if there
    is no such socket.
    """
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for other programs that listen, too
        sock.bind((_GROUP, _PORT))
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Listener(heard), sock=sock
        )
    except OSError:
        sock.close()
        return None
    return transport
