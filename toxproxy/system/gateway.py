"""The default gateway, from Linux's routing tables (rtnetlink(7)).

Other systems have no such socket; there no gateway is known.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address

_INTERNET = IPv4Address("192.0.2.1")  # nobody's (RFC 5737): the way to it is the way to the internet
_ANSWER_SECONDS = 1.0
_ANSWER_BYTES = 8192

_NEWROUTE, _GETROUTE, _REQUEST = 24, 26, 1
_UNICAST = 1  # rtm_type: through a gateway or a network, not to this machine itself
_DESTINATION, _GATEWAY, _SOURCE = 1, 5, 7  # attributes of a route
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ROUTE = struct.Struct("=BBBBBBBBI")  # family, prefixes of destination and source, tos, table, …, type, flags
_ATTRIBUTE = struct.Struct("=HH")  # length, type


@dataclass(frozen=True, slots=True)
class Gateway:
    """The router that leads to the internet, and this machine's address in the router's network."""

    address: IPv4Address
    source: IPv4Address


def default_gateway() -> Gateway | None:
    """The gateway of packets to the internet; None if there is none, as on loopback or a VPN's tunnel.

    Raises `OSError` if the system does not tell.
    """
    if sys.platform != "linux":
        return None
    destination = _ATTRIBUTE.pack(8, _DESTINATION) + _INTERNET.packed
    route = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    length = _HEADER.size + len(route) + len(destination)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_ANSWER_SECONDS)
        sock.bind((0, 0))
        sock.send(_HEADER.pack(length, _GETROUTE, _REQUEST, 1, 0) + route + destination)
        return _gateway(sock.recv(_ANSWER_BYTES))


def _gateway(answer: bytes) -> Gateway | None:
    """The gateway in the kernel's answer. An error, as "network unreachable", means none."""
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _NEWROUTE or _ROUTE.unpack_from(answer, _HEADER.size)[7] != _UNICAST:
        return None
    found: dict[int, bytes] = {}
    at = _HEADER.size + _ROUTE.size
    while at + _ATTRIBUTE.size <= length:
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if size < _ATTRIBUTE.size:
            break
        found[name] = answer[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    if _GATEWAY not in found or _SOURCE not in found:
        return None
    return Gateway(IPv4Address(found[_GATEWAY]), IPv4Address(found[_SOURCE]))
