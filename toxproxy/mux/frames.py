"""The frames of the protocol: a class for each type, and one table of all types.

A frame is one message of the link: a type byte, fixed fields in network byte order, and for some
types a tail that runs to the end of the frame. SPEC.md, section 4, has the same table. `decode`
checks each frame by itself; `Multiplexer` checks whether it is allowed in the current state.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from toxproxy.errors import GoAwayCode, Refusal, RemoteProtocolError, ResetCode

E = TypeVar("E", bound=IntEnum)

MAX_FRAME = 16 * 1024  # bytes, header and payload; a larger one is a protocol error
MAX_TEXT = 512  # bytes of UTF-8 in REFUSED and GOAWAY
MAX_HOST = 255  # bytes: the limit of SOCKS5 for a name (RFC 1928)
MAX_STREAM = 0xFFFF_FFFF
MAX_OFFSET = 1 << 62  # bytes in one direction of a stream
MAX_RAW = 64 * 1024  # bytes that a PACKED frame may hold, decompressed
TCP = 0x01  # a kind of stream, the only one in version 1
PLAIN = 0x80  # added to the kind: the opener takes no PACKED frames of this stream
LZ4 = 0x01  # a bit of HELLO's features: this side understands PACKED frames


Counts = tuple[tuple[int, int], ...]  # (channel, frames since the session began), channels ascending


class Hello(NamedTuple):
    """The first frame of each side: its protocol versions, its session id, and its limits."""

    oldest: int  # the lowest protocol version that the sender understands
    newest: int  # the highest
    session: int  # 64 random bits, new for every session
    features: int  # bits: LZ4
    window: int  # the early window: bytes that may follow an OPEN before OPENED
    streams: int  # how many streams the peer may have open at once


class Ping(NamedTuple):
    """Asks for a PONG with the same value."""

    value: int


class Pong(NamedTuple):
    """The answer to a PING."""

    value: int


class GoAway(NamedTuple):
    """Ends the session; no frame follows it."""

    code: int
    text: str


class Resume(NamedTuple):
    """The first frame on a later link: the session to go on with, and the frames received on each channel."""

    client: int  # the session ids of the two HELLOs
    server: int
    counts: Counts


class Ack(NamedTuple):
    """How many frames were received on each channel, where that changed since the last ACK."""

    counts: Counts


class Open(NamedTuple):
    """A new stream: its target, and how many bytes the opener accepts at first."""

    stream: int
    kind: int
    window: int
    port: int
    host: str


class Opened(NamedTuple):
    """The stream's target is connected; the sender accepts so many bytes at first."""

    stream: int
    window: int


class Refused(NamedTuple):
    """The stream was not opened, and why."""

    stream: int
    code: int
    text: str


class Data(NamedTuple):
    """Bytes of a stream; `offset` is how many bytes of this direction came before them."""

    stream: int
    offset: int
    payload: bytes


class Packed(NamedTuple):
    """`length` bytes of a stream, compressed to an LZ4 block."""

    stream: int
    offset: int
    length: int
    block: bytes


class Fin(NamedTuple):
    """This direction ends at `offset`. FIN itself takes one offset, so that CREDIT can acknowledge it."""

    stream: int
    offset: int


class Reset(NamedTuple):
    """Ends both directions of a stream at once."""

    stream: int
    code: int


class Credit(NamedTuple):
    """The application has taken everything before `consumed`; bytes before `limit` may be sent."""

    stream: int
    consumed: int
    limit: int


class Blocked(NamedTuple):
    """Bytes wait because `limit` was reached: the window may be too small for the path."""

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

# type byte: the frame's class, the layout of its fixed fields
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
PACKED_HEADER = 1 + _TABLE[0x18][1].size  # the same for a PACKED frame's block


def encode_data(stream: int, offset: int, pieces: list[bytes | memoryview]) -> bytes:
    """A DATA frame whose payload is all of `pieces`; they are copied once."""
    return b"".join((_DATA.pack(_DATA_TYPE, stream, offset), *pieces))


def encode(frame: Frame) -> bytes:
    """Any frame as bytes. A text of more than `MAX_TEXT` bytes is cut, between two characters."""
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
    """Parse one message of the link.

    Raises `RemoteProtocolError` where it is not a valid frame.
    """
    if not message:
        raise RemoteProtocolError("empty frame")
    if message[0] == _DATA_TYPE:  # most frames are DATA, so this is first
        return _decode_data(message)
    if message[0] not in _TABLE:
        raise RemoteProtocolError(f"unknown frame type 0x{message[0]:02x}")
    cls, layout = _TABLE[message[0]]
    end = 1 + layout.size
    if not end <= len(message) <= MAX_FRAME:
        raise RemoteProtocolError(f"{name(cls)} frame of {len(message)} bytes, expected {end} to {MAX_FRAME}")
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
    if tail and cls is not Hello:  # a later version may append fields to HELLO
        raise RemoteProtocolError(f"{name(cls)} frame of {len(message)} bytes, expected {end}")
    if (cls is Fin or cls is Credit or cls is Blocked) and max(fields[1:]) > MAX_OFFSET:
        raise RemoteProtocolError(f"{name(cls)} offset out of range, expected at most {MAX_OFFSET}")
    return cls._make(fields)


def name(cls: type[Frame]) -> str:
    """The name of a frame type in SPEC.md."""
    return cls.__name__.upper()


def _decode_data(message: bytes) -> Data:
    if not DATA_HEADER < len(message) <= MAX_FRAME:
        raise RemoteProtocolError(
            f"DATA frame of {len(message)} bytes, expected {DATA_HEADER + 1} to {MAX_FRAME}"
        )
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
        raise RemoteProtocolError(f"PACKED frame of {length} bytes, expected 1 to {MAX_RAW}, in {len(tail)}")
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
    """The code of a RESET. An unknown one, of a later version, becomes CONNECTION_RESET."""
    return _known(ResetCode, code, ResetCode.CONNECTION_RESET)


def refusal(code: int) -> Refusal:
    """The code of a REFUSED. An unknown one, of a later version, becomes FAILED.

    So does OFFLINE, which only this side says to itself.
    """
    known = _known(Refusal, code, Refusal.FAILED)
    return Refusal.FAILED if known is Refusal.OFFLINE else known


def go_away_code(code: int) -> GoAwayCode:
    """The code of a GOAWAY. An unknown one, of a later version, becomes PROTOCOL_ERROR."""
    return _known(GoAwayCode, code, GoAwayCode.PROTOCOL_ERROR)


def _known(codes: type[E], code: int, otherwise: E) -> E:
    try:
        return codes(code)
    except ValueError:
        return otherwise
