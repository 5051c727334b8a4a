"""What a UDP socket of somebody else sends, as the kernel hands it back, and sending it once more.

Linux puts a copy of a datagram, with its headers, into the error queue of its socket when it reaches the
packet scheduler (SO_TIMESTAMPING; Documentation/networking/timestamping.rst). No privilege is needed.
Elsewhere nothing comes back.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from toxproxy.system.sockets import duplicate

_OPTION, _AT_SCHEDULER = 37, 1 << 8  # SO_TIMESTAMPING, SOF_TIMESTAMPING_TX_SCHED
_MOST = 2048  # bytes that are read of a copy
_COPIES = 8  # that are read at a time
_LINK_HEADER = 32  # bytes at most before the IP header; Ethernet has 14, a tunnel may have none
_UDP_HEADER = 8  # bytes
_UDP = b"\x11"  # the protocol's number


@dataclass(frozen=True, slots=True)
class Datagram:
    """What was sent, and where to."""

    address: IPv4Address | IPv6Address
    port: int
    payload: bytes


class Echo:
    """The socket with this descriptor. Its owner goes on using it."""

    def __init__(self, descriptor: int) -> None:
        self._socket = duplicate(descriptor)

    def close(self) -> None:
        """Free this object's descriptor. The socket stays open."""
        self._socket.close()

    def sent_by(self, send: Callable[[], object]) -> list[Datagram]:
        """Call `send`; returns what the socket sent meanwhile, as far as the kernel tells."""
        if sys.platform != "linux":
            send()
            return []
        with suppress(OSError):  # some kernels lack it
            self._socket.setsockopt(socket.SOL_SOCKET, _OPTION, _AT_SCHEDULER)
        try:
            send()
        finally:
            with suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, _OPTION, 0)
        return self.drain()

    def drain(self) -> list[Datagram]:
        """What came back since the last call. While something waits, the socket looks readable.

        A copy may come seconds after the datagram was sent: it waits until the next hop's address is known.
        """
        copies: list[Datagram] = []
        if sys.platform != "linux":
            return copies
        with suppress(OSError):  # no more
            for _ in range(_COPIES):
                frame = self._socket.recvmsg(_MOST, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)[0]
                if (datagram := find_datagram(frame)) is not None:
                    copies.append(datagram)
        return copies

    def send(self, datagram: Datagram) -> None:
        """Send a datagram from this socket. Raises `OSError`."""
        host = str(datagram.address)
        if self._socket.family == socket.AF_INET6 and isinstance(datagram.address, IPv4Address):
            host = f"::ffff:{host}"
        self._socket.sendto(datagram.payload, (host, datagram.port))


def find_datagram(frame: bytes) -> Datagram | None:
    """The UDP datagram that ends a frame. How long the header before IP is depends on the device."""
    for at in range(_LINK_HEADER + 1):
        packet = frame[at:]
        if packet[:1] == b"\x45" and packet[9:10] == _UDP:
            header, length, address = 20, int.from_bytes(packet[2:4]), packet[16:20]
        elif packet[:1] and packet[0] >> 4 == 6 and packet[6:7] == _UDP:
            header, length, address = 40, 40 + int.from_bytes(packet[4:6]), packet[24:40]
        else:
            continue
        if length == len(packet) >= header + _UDP_HEADER:
            port = int.from_bytes(packet[header + 2 : header + 4])
            return Datagram(ip_address(address), port, packet[header + _UDP_HEADER :])
    return None
