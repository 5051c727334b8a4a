"""Packets as bytes: a header, perhaps an introduction, perhaps an acknowledgement, then frames.

SPEC.md, section 3, has the same layouts. All numbers are in network byte order. A packet number is a
plain int here; its low bits are sent, and `expanded` finds the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from toxproxy.errors import RemoteProtocolError

INTRODUCTION, ACK, PROBE = 0x01, 0x02, 0x04  # flags
CLOSE = 0x80  # in place of the flags: a packet of its own kind
MOST_RUNS = 64  # of received packets, in an acknowledgement that is read
MAX_TEXT = 512  # bytes of UTF-8 in CLOSE, and in the frame REFUSED

_HEADER = Struct("!I")
_IDS = Struct("!QQ")
HEADER, IDS = _HEADER.size, _IDS.size  # bytes
_NUMBER_BITS, _NUMBER_MASK = 24, 0xFF_FFFF
_ACK = Struct("!HIIHB")
_RUN = Struct("!HH")
_MOST = 0xFFFF  # of a span in packets, of a run or gap, and of a delay in its units
_DELAY_UNIT = 16e-6  # seconds
MOST_DELAY = _MOST * _DELAY_UNIT  # seconds; it stands for more, too: no round trip follows from it
_MICROSECOND = 1e-6

ids = _IDS.pack  # the client's and the server's session id


class Acknowledgement(NamedTuple):
    """Which packets came, and when the largest of them did."""

    span: int  # how far the number of the packet that has it is above its sender's floor
    largest: int  # its number modulo 2**32
    received: int  # when it came, on the peer's clock, in microseconds modulo 2**32
    delay: float  # seconds from then until this was written
    runs: list[tuple[int, int]]  # down from the largest: so many numbers that came, so many that did not
    end: int  # the position after it in the packet


def acknowledgement(
    span: int, received: float, now: float, ranges: Iterable[tuple[int, int]], most: int
) -> bytes:
    """Write an acknowledgement of the packets in `ranges`, as (first, end), descending; at most `most` runs.

    `received` is when the largest came. Times are in seconds. A `span` above 65,535 is cut.
    """
    runs: list[list[int]] = []  # each with the gap after it
    largest = low = 0
    for first, end in ranges:
        if not runs:
            largest = end - 1
        elif low - end <= _MOST and len(runs) < most:
            runs[-1][1] = low - end
        else:  # cannot be said, or is too old to matter
            break
        full, rest = divmod(end - first - 1, _MOST)
        runs += [[_MOST, 0]] * full + [[rest + 1, 0]]
        low = first
    del runs[most:]
    delay = max(min(int((now - received) / _DELAY_UNIT), _MOST), 0)
    at = int(received / _MICROSECOND) & 0xFFFF_FFFF
    head = _ACK.pack(min(span, _MOST), largest & 0xFFFF_FFFF, at, delay, len(runs))
    return head + b"".join([_RUN.pack(*run) for run in runs])


def parse_acknowledgement(packet: bytes, at: int) -> Acknowledgement:
    """Read the acknowledgement at a position. Raises `RemoteProtocolError`."""
    begin = at + _ACK.size
    if len(packet) < begin:
        raise RemoteProtocolError("a packet that ends within its acknowledgement")
    span, largest, received, delay, count = _ACK.unpack_from(packet, at)
    end = begin + count * _RUN.size
    if not 0 < count <= MOST_RUNS or len(packet) < end:
        raise RemoteProtocolError(f"an acknowledgement of {count} runs in {len(packet) - begin} bytes")
    runs = list(_RUN.iter_unpack(packet[begin:end]))
    return Acknowledgement(span, largest, received, delay * _DELAY_UNIT, runs, end)


def expanded(low: int, near: int, bits: int = 32) -> int:
    """The number with these low bits that is nearest to `near`."""
    half = 1 << bits - 1
    return near + ((low - near + half) & (2 * half - 1)) - half


def header(flags: int, number: int) -> bytes:
    """The first bytes of a packet."""
    return _HEADER.pack(flags << _NUMBER_BITS | number & _NUMBER_MASK)


def parse_header(packet: bytes, near: int) -> tuple[int, int]:
    """The flags and the number, the one that is nearest to `near`. Raises `RemoteProtocolError`."""
    if len(packet) < HEADER:
        raise RemoteProtocolError(f"a packet of {len(packet)} bytes, expected {HEADER} at least")
    [word] = _HEADER.unpack_from(packet)
    return word >> _NUMBER_BITS, expanded(word & _NUMBER_MASK, near, _NUMBER_BITS)


def introduction(packet: bytes) -> tuple[int, int] | None:
    """The client's and the server's session id that a packet names; None if it names none.

    The server's id is 0 while the client does not know it.
    """
    if len(packet) < HEADER + _IDS.size or packet[0] & CLOSE or not packet[0] & INTRODUCTION:
        return None
    client, server = _IDS.unpack_from(packet, HEADER)
    return client, server


def close(code: int, text: str) -> bytes:
    """A CLOSE packet."""
    return bytes((CLOSE, code)) + cut(text)


def closing(packet: bytes) -> tuple[int, str] | None:
    """Code and text of a CLOSE packet; None for another one. The text has no control characters."""
    if len(packet) < 2 or packet[0] != CLOSE:
        return None
    return packet[1], printable(packet[2:])


def cut(text: str) -> bytes:
    """A text for the peer's people: at most `MAX_TEXT` bytes, cut between two characters."""
    return text.encode()[:MAX_TEXT].decode(errors="ignore").encode()


def printable(text: bytes) -> str:
    """A peer's text for a log line or a terminal: at most `MAX_TEXT` bytes, no control characters."""
    return "".join(c if c.isprintable() else "�" for c in text[:MAX_TEXT].decode(errors="replace"))
