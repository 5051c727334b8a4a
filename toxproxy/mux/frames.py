"""The vocabulary of the wire: one class a frame, all of them in one table.

A frame is one message of the link: a type byte, fixed fields in network byte order, and for
some a tail that runs to the frame's end. SPEC.md has the same table for people. `decode`
checks everything that a frame alone can tell; what it means now is `connection`'s to judge.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from toxproxy.errors import GoAwayCode, Refusal, RemoteProtocolError, ResetCode

E = TypeVar("E", bound=IntEnum)

MAX_FRAME = 16 * 1024  # bytes, header and payload: no peer may send a larger one
MAX_TEXT = 512  # bytes of UTF-8 in REFUSED and GOAWAY
MAX_HOST = 255  # bytes: RFC 1928's limit for a name
MAX_STREAM = 0xFFFF_FFFF
MAX_OFFSET = 1 << 62  # bytes in one direction of a stream
MAX_RAW = 64 * 1024  # bytes that a PACKED frame may hold
TCP = 0x01  # the only kind of stream in version 1
PLAIN = 0x80  # added to the kind: the opener takes no PACKED frames of this stream
LZ4 = 0x01  # a bit of HELLO's features: PACKED frames are understood


Counts = tuple[tuple[int, int], ...]  # (channel, frames since the session began), channels ascending


class Hello(NamedTuple):
    """The first frame of a session from either side: versions, who, and what may be sent to it."""

    oldest: int  # the lowest protocol version understood
    newest: int  # the highest
    session: int  # 64 random bits, new for every session object
    features: int  # bits: LZ4
    window: int  # bytes that may follow an OPEN before it is answered
    streams: int  # how many streams the peer may have open at once


class Ping(NamedTuple):
    """Asks for a PONG with the same value."""

    value: int


class Pong(NamedTuple):
    """The answer to a PING."""

    value: int


class GoAway(NamedTuple):
    """The session ends here; nothing follows it."""

    code: int
    text: str


class Resume(NamedTuple):
    """The first frame of a later link: which session goes on, and how many frames came on each channel."""

    client: int  # the session ids of the two HELLOs
    server: int
    counts: Counts


class Ack(NamedTuple):
    """How many frames came until now, on the channels where it were more since the last time."""

    counts: Counts


class Open(NamedTuple):
    """A new stream: where to connect, and how many bytes the opener takes at first."""

    stream: int
    kind: int
    window: int
    port: int
    host: str


class Opened(NamedTuple):
    """The stream's far side is connected and takes this many bytes at first."""

    stream: int
    window: int


class Refused(NamedTuple):
    """The stream was not opened, and why."""

    stream: int
    code: int
    text: str


class Data(NamedTuple):
    """Bytes of a stream; `offset` counts those before them in this direction."""

    stream: int
    offset: int
    payload: bytes


class Packed(NamedTuple):
    """Bytes of a stream as an LZ4 block, which holds `length` of them."""

    stream: int
    offset: int
    length: int
    block: bytes


class Fin(NamedTuple):
    """This direction ends at `offset`. The end itself takes one offset, so that it can be credited."""

    stream: int
    offset: int


class Reset(NamedTuple):
    """The stream ends at once, in both directions."""

    stream: int
    code: int


class Credit(NamedTuple):
    """Everything before `consumed` was taken by the application; bytes before `limit` may be sent."""

    stream: int
    consumed: int
    limit: int


class Blocked(NamedTuple):
    """More bytes wait than the limit lets through; the window may be too small for the path."""

    stream: int
    limit: int


Frame = (
    Hello
    | Ping
    | Pong
    | GoAway
    | Resume
    | Ack
    | Open
    | Opened
    | Refused
    | Data
    | Packed
    | Fin
    | Reset
    | Credit
    | Blocked
)

# type byte: the frame's class, its fixed fields
_TABLE: dict[int, tuple[type[Frame], struct.Struct]] = {
    0x01: (Hello, struct.Struct("!BBQIII")),
    0x02: (Ping, struct.Struct("!Q")),
    0x03: (Pong, struct.Struct("!Q")),
    0x04: (GoAway, struct.Struct("!B")),
    0x05: (Resume, struct.Struct("!QQ")),
    0x06: (Ack, struct.Struct("!")),
    0x10: (Open, struct.Struct("!IBIH")),
    0x11: (Opened, struct.Struct("!II")),
    0x12: (Refused, struct.Struct("!IB")),
    0x13: (Data, struct.Struct("!IQ")),
    0x14: (Fin, struct.Struct("!IQ")),
    0x15: (Reset, struct.Struct("!IB")),
    0x16: (Credit, struct.Struct("!IQQ")),
    0x17: (Blocked, struct.Struct("!IQ")),
    0x18: (Packed, struct.Struct("!IQI")),
}
_HEADS = {cls: (bytes((number,)), layout) for number, (cls, layout) in _TABLE.items()}

_COUNT = struct.Struct("!BQ")
_DATA = struct.Struct("!BIQ")
_DATA_TYPE = 0x13
DATA_HEADER = _DATA.size  # bytes in front of a DATA frame's payload
PACKED_HEADER = 1 + _TABLE[0x18][1].size  # bytes in front of a PACKED frame's block


def encode_data(stream: int, offset: int, pieces: list[bytes | memoryview]) -> bytes:
    """A DATA frame; its payload is all of `pieces`, copied once."""
    return b"".join((_DATA.pack(_DATA_TYPE, stream, offset), *pieces))


def encode(frame: Frame) -> bytes:
    """Any frame as bytes. Texts that are too long are cut at a character."""
    head, layout = _HEADS[type(frame)]
    fixed: tuple[Any, ...] = frame[:]
    tail = b""
    if isinstance(frame, (GoAway, Refused)):
        fixed, tail = frame[:-1], frame.text.encode()[:MAX_TEXT].decode(errors="ignore").encode()
    elif isinstance(frame, Open):
        fixed, tail = frame[:-1], frame.host.encode("ascii")
    elif isinstance(frame, (Data, Packed)):
        fixed, tail = frame[:-1], frame[-1]
    elif isinstance(frame, (Resume, Ack)):
        fixed, tail = frame[:-1], b"".join(_COUNT.pack(*count) for count in frame.counts)
    return head + layout.pack(*fixed) + tail


def decode(message: bytes) -> Frame:
    """The frame in a message of the link.

    Raises `RemoteProtocolError` for whatever is not a frame of this protocol.
    """
    if not message:
        raise RemoteProtocolError("empty frame")
    if message[0] == _DATA_TYPE:  # nearly all frames, so first
        return _decode_data(message)
    if message[0] not in _TABLE:
        raise RemoteProtocolError(f"unknown frame type 0x{message[0]:02x}")
    cls, layout = _TABLE[message[0]]
    end = 1 + layout.size
    if not end <= len(message) <= MAX_FRAME:
        raise RemoteProtocolError(f"{name(cls)} frame of {len(message)} bytes")
    fields: tuple[Any, ...] = layout.unpack_from(message, 1)
    tail = message[end:]
    if cls is GoAway or cls is Refused:
        return cls._make((*fields, printable(tail)))
    if cls is Open:
        return Open._make((*fields, _host(tail, fields[3])))
    if cls is Packed:
        return Packed._make((*fields, _block(tail, fields[2])))
    if cls is Resume or cls is Ack:
        return cls._make((*fields, _counts(cls, tail)))
    if tail and cls is not Hello:  # a later version's HELLO may say more
        raise RemoteProtocolError(f"{name(cls)} frame of {len(message)} bytes")
    if (cls is Fin or cls is Credit or cls is Blocked) and max(fields[1:]) > MAX_OFFSET:
        raise RemoteProtocolError(f"{name(cls)} offset out of range")
    return cls._make(fields)


def name(cls: type[Frame]) -> str:
    """What SPEC.md calls a frame."""
    return cls.__name__.upper()


def _decode_data(message: bytes) -> Data:
    if not DATA_HEADER < len(message) <= MAX_FRAME:
        raise RemoteProtocolError(f"DATA frame of {len(message)} bytes")
    _, stream, offset = _DATA.unpack_from(message)
    return Data(stream, offset, message[DATA_HEADER:])


def _host(tail: bytes, port: int) -> str:
    if not 0 < len(tail) <= MAX_HOST or not port:
        raise RemoteProtocolError("OPEN frame without a host or a port")
    if not all(0x21 <= byte <= 0x7E for byte in tail):
        raise RemoteProtocolError("OPEN frame whose host is not printable ASCII")
    return tail.decode("ascii")


def _block(tail: bytes, length: int) -> bytes:
    if not tail or not 0 < length <= MAX_RAW:
        raise RemoteProtocolError(f"PACKED frame of {length} bytes in {len(tail)}")
    return tail


def _counts(cls: type[Frame], tail: bytes) -> Counts:
    if len(tail) % _COUNT.size:
        raise RemoteProtocolError(f"{name(cls)} frame that ends within a count")
    counts: Counts = tuple(_COUNT.iter_unpack(tail))
    if any(after <= before for (before, _), (after, _) in pairwise(counts)):
        raise RemoteProtocolError(f"{name(cls)} frame whose channels do not ascend")
    return counts


def printable(text: bytes) -> str:
    """A peer's text for a log line or a terminal: at most MAX_TEXT bytes, no control characters."""
    return "".join(c if c.isprintable() else "�" for c in text[:MAX_TEXT].decode(errors="replace"))


def reset_code(code: int) -> ResetCode:
    """A RESET's code; one of a later version counts as a reset connection."""
    return _known(ResetCode, code, ResetCode.CONNECTION_RESET)


def refusal(code: int) -> Refusal:
    """A REFUSED's code; one of a later version counts as a general failure."""
    return _known(Refusal, code, Refusal.FAILED)


def go_away_code(code: int) -> GoAwayCode:
    """A GOAWAY's code; one of a later version counts as a protocol error."""
    return _known(GoAwayCode, code, GoAwayCode.PROTOCOL_ERROR)


def _known(codes: type[E], code: int, otherwise: E) -> E:
    try:
        return codes(code)
    except ValueError:
        return otherwise
