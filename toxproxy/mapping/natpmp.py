"""NAT-PMP's packets (RFC 6886, section 3). Pure.

A parser returns None for a datagram that is no answer to the request, which is then ignored, and raises
`MappingError` for a refusal.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

from toxproxy.mapping.grant import Failure, MappingError

PORT = 5351  # UDP, of the router; PCP's too
VERSION = 0
ADDRESS_REQUEST = bytes([VERSION, 0])

_ADDRESS, _MAP_UDP, _ANSWER = 0, 1, 0x80
_RESULT = struct.Struct("!BBHI")  # version, operation, result, seconds since the mappings began
_REQUEST = struct.Struct("!BBHHHI")  # version, operation, reserved, internal port, external port, lifetime
_MAPPED = struct.Struct("!HHI")  # internal port, external port, lifetime
_UNSUPPORTED_VERSION, _UNSUPPORTED_OPERATION = 1, 5


@dataclass(frozen=True, slots=True)
class ExternalAddress:
    """The router's external address, and its clock."""

    address: IPv4Address
    epoch: int


@dataclass(frozen=True, slots=True)
class Mapped:
    """The external port that leads to an internal one, for `lifetime` seconds, and the router's clock."""

    port: int
    lifetime: int
    epoch: int


def map_request(internal: int, external: int, lifetime: int) -> bytes:
    """Ask for a mapping of a UDP port. `external` is a wish. A lifetime of 0 gives it back."""
    return _REQUEST.pack(VERSION, _MAP_UDP, 0, internal, external if lifetime else 0, lifetime)


def parse_address(data: bytes) -> ExternalAddress | None:
    """The answer to `ADDRESS_REQUEST`, which a router also announces unasked."""
    if (epoch := _begin(data, _ADDRESS, 12)) is None:
        return None
    return ExternalAddress(IPv4Address(data[8:12]), epoch)


def parse_mapped(data: bytes, internal: int) -> Mapped | None:
    """The answer to a `map_request` for this internal port."""
    if (epoch := _begin(data, _MAP_UDP, 16)) is None:
        return None
    port, external, lifetime = _MAPPED.unpack_from(data, 8)
    return Mapped(external, lifetime, epoch) if port == internal else None


def _begin(data: bytes, operation: int, length: int) -> int | None:
    """The clock in an answer to this operation, of this length. An error may be shorter."""
    if len(data) < _RESULT.size or len(data) > length:
        return None
    version, answered, result, epoch = _RESULT.unpack_from(data)
    if version != VERSION or answered != operation | _ANSWER:
        return None
    if result:
        unsupported = result in (_UNSUPPORTED_VERSION, _UNSUPPORTED_OPERATION)
        raise MappingError(Failure.UNSUPPORTED if unsupported else Failure.REFUSED, result)
    return int(epoch) if len(data) == length else None
