"""Where a node's own part of Tox's network (its DHT node) can be reached, as one friend tells another.

The packet, in network byte order (SPEC.md, section 2):

    u8 186 · u8 1 · DHT key, 32 bytes · u8 flags
    0 to 8 times: u8 4 or 6 · address, 4 or 16 bytes · u16 UDP port
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from toxproxy.address import Address

PACKET_ID = 186  # lossless, free in the public registry of custom packet ids
MOST = 8  # addresses in a packet

_LAYOUT = 1
_HEAD = struct.Struct("!BB32sB")
_UDP = 0x01  # the flag that UDP packets reach the node; the other bits are ignored
_SIZES = {4: 4, 6: 16}  # bytes of an address
_PUBLIC_IPV6 = IPv6Network("2000::/3")  # global unicast (RFC 4291, section 2.4)
# RFC 1918: reachable only from within. Packets for 10.0.0.1 reach another host in every such network.
_PRIVATE = tuple(IPv4Network(net) for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
# This machine, its link, a carrier's customers or a VPN that may relay over TCP, everybody, or nobody.
_NEVER = tuple(
    IPv4Network(net) for net in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10", "224.0.0.0/3")
)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """A node's DHT key, and the addresses and UDP ports where it may be reached; the best ones are first.

    `udp`: as far as the node knows, UDP packets reach it.
    """

    key: bytes
    places: tuple[tuple[Address, int], ...]
    udp: bool = True

    def packet(self) -> bytes:
        """The packet that tells it."""
        pieces = [_HEAD.pack(PACKET_ID, _LAYOUT, self.key, _UDP if self.udp else 0)]
        return b"".join([*pieces, *(packed_place(*place) for place in self.places)])


def parse(packet: bytes) -> Whereabouts:
    """The whereabouts in a friend's packet. Raises `ValueError` for anything that is not exactly one."""
    if len(packet) < _HEAD.size:
        raise ValueError(f"expected {_HEAD.size} bytes or more, found {len(packet)}")
    which, layout, key, flags = _HEAD.unpack_from(packet)
    if (which, layout) != (PACKET_ID, _LAYOUT):
        raise ValueError("another packet or layout")
    places: list[tuple[Address, int]] = []
    at = _HEAD.size
    while at < len(packet):
        address, port, at = read_place(packet, at)
        if len(places) == MOST:
            raise ValueError("the addresses are not well formed")
        places.append((address, port))
    return Whereabouts(key, tuple(places), bool(flags & _UDP))


def packed_place(address: Address, port: int) -> bytes:
    """An address and a port, as they stand in the packet."""
    return bytes([address.version]) + address.packed + port.to_bytes(2)


def read_place(packet: bytes, at: int) -> tuple[Address, int, int]:
    """The address and the port at a place of a packet, and where the next thing is. Raises `ValueError`."""
    size = _SIZES.get(packet[at]) if at < len(packet) else None
    if size is None or at + 1 + size + 2 > len(packet):
        raise ValueError("the addresses are not well formed")
    address = ip_address(packet[at + 1 : at + 1 + size])
    port = int.from_bytes(packet[at + 1 + size : at + 3 + size])
    if not port:
        raise ValueError("a port is 0")
    return address, port, at + 3 + size


def is_public(address: Address) -> bool:
    """Whether a host on the internet may have this address."""
    if address.version == 6:
        return address in _PUBLIC_IPV6
    return not any(address in network for network in (*_NEVER, *_PRIVATE))


def is_near(address: Address, own: Iterable[Address]) -> bool:
    """Whether this is an address of a private network in which this machine has one, too."""
    return any(address in network and any(mine in network for mine in own) for network in _PRIVATE)


def is_private(address: Address) -> bool:
    """Whether only hosts within a private network reach this address."""
    return any(address in network for network in _PRIVATE)
