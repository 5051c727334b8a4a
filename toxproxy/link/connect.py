"""Reads the fields of ENet's CONNECT that a carrier needs.

A CONNECT command is alone in its datagram (protocol.h of ENet 1.3): a header of 4 bytes with the
peer id 0xFFF, then the command, with its fields in network byte order.
"""

from __future__ import annotations

LENGTH = 52  # bytes
_MTU = slice(12, 16)
_CONNECT_ID = slice(44, 48)


def is_connect(datagram: bytes | bytearray | memoryview) -> bool:
    """Whether a datagram asks for a new ENet connection."""
    return (
        len(datagram) == LENGTH
        and datagram[0] & 0x8F == 0x8F  # sent-time flag, not compressed, no session; peer id 0xFFF
        and datagram[1] == 0xFF
        and datagram[4] & 0x0F == 2
    )


def connect_id(datagram: bytes | bytearray | memoryview) -> int:
    """The random number by which a CONNECT names its connection."""
    return int.from_bytes(datagram[_CONNECT_ID])


def clamp_mtu(datagram: bytearray | memoryview, mtu: int) -> None:
    """Lower the size of datagrams that a CONNECT asks for. Both sides then keep to it."""
    if int.from_bytes(datagram[_MTU]) > mtu:
        datagram[_MTU] = mtu.to_bytes(4)
