"""The header in front of each datagram of a SOCKS5 client (RFC 1928, section 7). Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from toxproxy.address import UdpTarget, parse_host

_IPV4, _NAME, _IPV6 = 0x01, 0x03, 0x04
_SIZES = {_IPV4: 4, _IPV6: 16}


class Said(NamedTuple):
    """A client's datagram: where it is for, and what is in it."""

    target: UdpTarget
    payload: bytes


def decoded(data: bytes) -> Said | None:
    """A datagram of a client; None for one that is malformed or a fragment, which are dropped."""
    if len(data) < 5 or data[:2] != b"\0\0" or data[2]:
        return None
    at, size = (5, data[4]) if data[3] == _NAME else (4, _SIZES.get(data[3], 0))
    address, port = data[at : at + size], data[at + size : at + size + 2]
    if not size or len(port) < 2:
        return None
    try:
        return Said(UdpTarget(_host(data[3], address), int.from_bytes(port)), data[at + size + 2 :])
    except ValueError:
        return None


def encoded(source: UdpTarget) -> bytes:
    """The header of a datagram that came from `source`: as the client wrote it, a name stays a name."""
    try:
        packed = ip_address(source.host).packed
        address = bytes((_IPV4 if len(packed) == 4 else _IPV6,)) + packed
    except ValueError:
        name = source.host.encode("ascii")
        address = bytes((_NAME, len(name))) + name
    return b"\0\0\0" + address + source.port.to_bytes(2)


def _host(kind: int, address: bytes) -> str:
    """Raises `ValueError` for a name that cannot be."""
    match kind:
        case 0x01:
            return str(IPv4Address(address))
        case 0x04:
            return str(IPv6Address(address))
    return parse_host(address.decode())
