"""ENet's datagrams, written and read by hand after protocol.h of ENet 1.3.17: for those who lie in them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

ACK, CONNECT, VERIFY, DISCONNECT, PING, RELIABLE, UNRELIABLE, FRAGMENT = range(1, 9)
UNSEQUENCED, BANDWIDTH, THROTTLE, UNRELIABLE_FRAGMENT = range(9, 13)
SIZES = {1: 8, 2: 48, 3: 44, 4: 8, 5: 4, 6: 6, 7: 8, 8: 24, 9: 8, 10: 12, 11: 16, 12: 24}
LENGTH_AT = {6: 4, 7: 6, 8: 6, 9: 6, 12: 6}  # where a command says how many bytes follow it
WANTED, UNORDERED = 0x80, 0x40  # to be acknowledged; in no sequence
MTU, PART = 1371, 1343  # bytes of a datagram, and of a frame in each of its fragments but the last
_SETTINGS = (65536, 1, 0, 0, 5000, 2, 2)


def timed(*commands: bytes, at: int = 0) -> bytes:
    """A datagram that says when it was sent, as it must where something is to be acknowledged."""
    return struct.pack("!HH", 0x8000, at) + b"".join(commands)


def untimed(*commands: bytes) -> bytes:
    """A datagram of which nothing is to be acknowledged."""
    return b"\0\0" + b"".join(commands)


def ack(channel: int, sequence: int, sent: int = 0, again: int | None = None) -> bytes:
    return struct.pack("!BBHHH", ACK, channel, sequence, sequence if again is None else again, sent)


def ping(sequence: int) -> bytes:
    return struct.pack("!BBH", WANTED | PING, 0xFF, sequence)


def disconnect(sequence: int, kind: int = UNORDERED | DISCONNECT, data: int = 0) -> bytes:
    return struct.pack("!BBHI", kind, 0xFF, sequence, data)


def bandwidth(sequence: int, incoming: int = 0, outgoing: int = 0) -> bytes:
    return struct.pack("!BBHII", WANTED | BANDWIDTH, 0xFF, sequence, incoming, outgoing)


def throttle(sequence: int, interval: int = 5000, faster: int = 2, slower: int = 0) -> bytes:
    return struct.pack("!BBHIII", WANTED | THROTTLE, 0xFF, sequence, interval, faster, slower)


def packet(data: bytes, group: int = 1, *, channel: int = 0, number: int = 0, kind: int = 0x49) -> bytes:
    """An unsequenced packet."""
    return struct.pack("!BBHHH", kind, channel, number, group, len(data)) + data


def reliable(channel: int, sequence: int, data: bytes, kind: int = WANTED | RELIABLE) -> bytes:
    return struct.pack("!BBHH", kind, channel, sequence, len(data)) + data


def fragment(
    channel: int, start: int, number: int, count: int, total: int, data: bytes, offset: int | None = None
) -> bytes:
    """Any fragment, whatever it says."""
    sequence = (start + number) & 0xFFFF
    where = number * PART if offset is None else offset
    return (
        struct.pack(
            "!BBHHHIIII", WANTED | FRAGMENT, channel, sequence, start, len(data), count, number, total, where
        )
        + data
    )


def fragments(channel: int, start: int, frame: bytes) -> list[bytes]:
    """A frame as ENet cuts it."""
    count = -(-len(frame) // PART)
    return [
        fragment(channel, start, number, count, len(frame), frame[number * PART : (number + 1) * PART])
        for number in range(count)
    ]


def connect(identity: int, *, mtu: int = MTU, settings: tuple[int, ...] = _SETTINGS, data: int = 0) -> bytes:
    """A datagram with CONNECT."""
    head = struct.pack("!HHBBHHBB", 0x8FFF, 1, WANTED | CONNECT, 0xFF, 1, 0, 0xFF, 0xFF)
    return head + struct.pack("!10I", mtu, *settings, identity, data)


def verify(identity: int, *, mtu: int = MTU, settings: tuple[int, ...] = _SETTINGS) -> bytes:
    """A datagram with VERIFY_CONNECT, the answer."""
    head = struct.pack("!HHBBHHBB", 0x8000, 1, WANTED | VERIFY, 0xFF, 1, 0, 0, 0)
    return head + struct.pack("!9I", mtu, *settings, identity)


def commands(datagram: bytes) -> Iterator[bytes]:
    """The commands of a datagram with their data. Raises IndexError or KeyError at what is none."""
    at = 4 if datagram[0] & 0x80 else 2
    while at < len(datagram):
        number = datagram[at] & 0x0F
        end = at + SIZES[number]
        if number in LENGTH_AT:
            (length,) = struct.unpack_from("!H", datagram.ljust(end, b"\0"), at + LENGTH_AT[number])
            end += length
        if end > len(datagram):
            raise IndexError("a command was cut")
        yield datagram[at:end]
        at = end


def written_again(command: bytes) -> bytes:
    """What ENet of a link would write for this command, from the few fields that are free to choose.

    Raises KeyError for a command that no link sends.
    """
    kind, sequence = struct.unpack_from("!BxH", command)
    match kind:
        case 0x01:
            return ack(0xFF, sequence, *struct.unpack_from("!H", command, 6))
        case 0x44:
            return disconnect(sequence)
        case 0x82:
            return connect(*struct.unpack_from("!I", command, 40))[4:]
        case 0x83:
            return verify(*struct.unpack_from("!I", command, 40))[4:]
        case 0x85:
            return ping(sequence)
        case 0x49:
            assert 0 < len(command) - 8 <= PART
            return packet(command[8:], *struct.unpack_from("!H", command, 4))
        case 0x8A:
            return bandwidth(sequence)
        case 0x8B:
            return throttle(sequence)
    raise KeyError(kind)
