"""PCP's packets, as far as a mapping of one UDP port needs them (RFC 6887, sections 7, 11 and 14). Pure.

A parser returns None for a datagram that is no answer to the request, which is then ignored, and raises
`MappingError` for a refusal.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from toxproxy.mapping.grant import Failure, Grant, MappingError, checked

VERSION = 2
NONCE = 12  # bytes

_ANNOUNCE, _MAP, _ANSWER = 0, 1, 0x80
_UDP = 17
_REQUEST = struct.Struct("!BBHI16s")  # version, operation, reserved, lifetime, this machine's address
_RESULT = struct.Struct("!BBBBII12x")  # version, operation, reserved, result, lifetime, clock
_MAPPING = struct.Struct("!12sB3xHH16s")  # nonce, protocol, internal port, external port, external address
_MOST = 1100  # bytes of a packet (RFC 6887, section 7)
_UNSUPPORTED = frozenset({1, 4, 9})  # version, operation, protocol
_CANNOT_PROVIDE_EXTERNAL = 11
_ANY = bytes(10) + b"\xff\xff" + bytes(4)  # ::ffff:0.0.0.0, "an IPv4 address, whichever"


def map_request(nonce: bytes, source: IPv4Address, internal: int, external: int, lifetime: int) -> bytes:
    """Ask for a mapping. `external` is a wish, 0 for none. A lifetime of 0 gives the mapping back."""
    head = _REQUEST.pack(VERSION, _MAP, 0, lifetime, _ANY[:12] + source.packed)
    return head + _MAPPING.pack(nonce, _UDP, internal, external if lifetime else 0, _ANY)


def parse_grant(data: bytes, nonce: bytes, internal: int) -> Grant | None:
    """The answer to a `map_request` with this nonce and port."""
    if _is_version_0(data):
        raise MappingError(Failure.UNSUPPORTED)
    if len(data) < _RESULT.size or len(data) > _MOST or len(data) % 4:
        return None
    version, operation, _, result, lifetime, epoch = _RESULT.unpack_from(data)
    if operation != _MAP | _ANSWER:
        return None
    if version != VERSION or result in _UNSUPPORTED:
        raise MappingError(Failure.UNSUPPORTED, result)
    if len(data) < _RESULT.size + _MAPPING.size:
        return None
    theirs, protocol, port, external, address = _MAPPING.unpack_from(data, _RESULT.size)
    if (theirs, protocol, port) != (nonce, _UDP, internal):
        return None
    if result:
        taken = result == _CANNOT_PROVIDE_EXTERNAL
        raise MappingError(Failure.TAKEN if taken else Failure.REFUSED, result)
    if (mapped := IPv6Address(address).ipv4_mapped) is None:
        raise MappingError(Failure.NONSENSE)
    return checked(mapped, external, lifetime, epoch)


def parse_released(data: bytes, nonce: bytes, internal: int) -> bool | None:
    """Whether a mapping was given back, by the answer to a `map_request` with a lifetime of 0."""
    if len(data) < _RESULT.size + _MAPPING.size or data[:2] != bytes([VERSION, _MAP | _ANSWER]):
        return None
    theirs, protocol, port, _, _ = _MAPPING.unpack_from(data, _RESULT.size)
    return data[3] == 0 if (theirs, protocol, port) == (nonce, _UDP, internal) else None


def parse_announced(data: bytes) -> int | None:
    """The router's clock in an ANNOUNCE that it sends unasked (RFC 6887, section 14.1)."""
    if not _RESULT.size <= len(data) <= _MOST:
        return None
    version, operation, _, result, _, epoch = _RESULT.unpack_from(data)
    return int(epoch) if (version, operation, result) == (VERSION, _ANNOUNCE | _ANSWER, 0) else None


def _is_version_0(data: bytes) -> bool:
    """Whether a router that knows NAT-PMP alone answered (RFC 6886, section 3.5; RFC 6887, section 9)."""
    return 8 <= len(data) <= 16 and data[0] == 0 and data[1] & _ANSWER != 0
