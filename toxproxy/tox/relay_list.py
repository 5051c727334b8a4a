"""The TCP relays that a node is connected to, as one friend tells another.

The packet, in network byte order (SPEC.md, section 2):

    u8 186 · u8 2
    1 to 4 times: u8 4 or 6 · address, 4 or 16 bytes · u16 TCP port · key of the relay, 32 bytes
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from toxproxy.address import Address
from toxproxy.tox.whereabouts import PACKET_ID, packed_place, read_place

LAYOUT = 2
MOST = 4  # relays in a packet

_HEAD = bytes([PACKET_ID, LAYOUT])
_KEY_SIZE = 32  # bytes


class Relay(NamedTuple):
    """A TCP relay: where it is, and its key."""

    address: Address
    port: int
    key: bytes


def relay_packet(relays: Iterable[Relay]) -> bytes:
    """The packet that tells them."""
    return _HEAD + b"".join(packed_place(relay.address, relay.port) + relay.key for relay in relays)


def parse_relays(packet: bytes) -> tuple[Relay, ...]:
    """The relays in a friend's packet. Raises `ValueError` for anything that is not exactly one."""
    if packet[: len(_HEAD)] != _HEAD:
        raise ValueError("another packet or layout")
    relays: list[Relay] = []
    at = len(_HEAD)
    while at < len(packet) or not relays:
        address, port, at = read_place(packet, at)
        key = packet[at : at + _KEY_SIZE]
        at += _KEY_SIZE
        if at > len(packet) or len(relays) == MOST:
            raise ValueError("the relays are not well formed")
        relays.append(Relay(address, port, key))
    return tuple(relays)
