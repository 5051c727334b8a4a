"""Reads the fields of ENet's datagrams that a link needs: those of CONNECT, and the time in an ACKNOWLEDGE.

A CONNECT command is alone in its datagram (protocol.h of ENet 1.3): a header of 4 bytes with the
peer id 0xFFF, then the command, with its fields in network byte order.
"""

from __future__ import annotations

_SENT_TIME_FLAG = 0x80  # a bit of the first byte: the header has 4 bytes, not 2
_ACKNOWLEDGE = 1
_ACKNOWLEDGE_LENGTH = 8

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


def round_trip(datagram: bytes | bytearray | memoryview, now: int) -> float | None:
    """The round trip in seconds, if the datagram begins with an acknowledgement; else None.

    `now` is ENet's clock in milliseconds. The acknowledgement contains the low 16 bits of the time at
    which the acknowledged packet was sent.
    """
    at = 4 if datagram[0] & _SENT_TIME_FLAG else 2
    if len(datagram) < at + _ACKNOWLEDGE_LENGTH or datagram[at] & 0x0F != _ACKNOWLEDGE:
        return None
    milliseconds = (now - int.from_bytes(datagram[at + 6 : at + 8])) % 0x1_0000
    return max(milliseconds, 1) / 1000
