"""The frames of the protocol: a class for each type, and one table of all types.

A packet holds frames one after another. A frame is a type byte, fixed fields in network byte order, and
for some types a tail whose length is the last of the fixed fields:

    0x01  HELLO    u8 oldest, u8 newest, u64 session, u32 features, u32 early window, u32 streams,
                   u8 more | more bytes, ignored
    0x02  PING     u64 value
    0x03  PONG     u64 value
    0x10  OPEN     u32 stream, u8 kind, u32 window, u16 port, u8 length | host
    0x11  OPENED   u32 stream, u32 window
    0x12  REFUSED  u32 stream, u8 code, u16 length | text
    0x13  DATA     u32 stream, u64 offset, u16 length | bytes, 1 or more
    0x14  FIN      u32 stream, u64 offset
    0x15  RESET    u32 stream, u8 code
    0x16  CREDIT   u32 stream, u64 consumed, u64 limit
    0x17  BLOCKED  u32 stream, u64 limit
    0x18  PACKED   u32 stream, u64 offset, u32 length, u16 size | an LZ4 block of `size` bytes

`decode` checks each frame by itself; `Multiplexer` checks whether it is allowed in the current state.
Frames may come in any order, more than once, or late.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, ResetCode

E = TypeVar("E", bound=IntEnum)

MAX_TEXT = 512  # bytes of UTF-8 in REFUSED and in the packet CLOSE
MAX_STREAM = 0xFFFF_FFFF
MAX_OFFSET = 1 << 62  # bytes in one direction of a stream
MAX_RAW = 64 * 1024  # bytes that a PACKED frame may hold, decompressed
TCP = 0x01  # a kind of stream, the only one yet
PLAIN = 0x80  # added to the kind: the opener takes no PACKED frames of this stream
LZ4 = 0x01  # a bit of HELLO's features: this side understands PACKED frames


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


Frame = Hello | Ping | Pong | Open | Opened | Refused | Data | Packed | Fin | Reset | Credit | Blocked

# type byte: the frame's class, the layout of its fixed fields
_TABLE: dict[int, tuple[type[Frame], struct.Struct]] = {
    0x01: (Hello, struct.Struct("!BBQIIIB")),
    0x02: (Ping, struct.Struct("!Q")),
    0x03: (Pong, struct.Struct("!Q")),
    0x10: (Open, struct.Struct("!IBIHB")),
    0x11: (Opened, struct.Struct("!II")),
    0x12: (Refused, struct.Struct("!IBH")),
    0x13: (Data, struct.Struct("!IQH")),
    0x14: (Fin, struct.Struct("!IQ")),
    0x15: (Reset, struct.Struct("!IB")),
    0x16: (Credit, struct.Struct("!IQQ")),
    0x17: (Blocked, struct.Struct("!IQ")),
    0x18: (Packed, struct.Struct("!IQIH")),
}
_HEADS = {cls: (bytes((number,)), layout) for number, (cls, layout) in _TABLE.items()}
_WITH_TAIL = (Hello, Open, Refused, Data, Packed)  # the last fixed field is the length of the tail

DATA_TYPE = 0x13
DATA = struct.Struct("!BIQH")  # the header of a DATA frame: type, stream, offset, length
DATA_HEADER = DATA.size  # bytes in front of a DATA frame's payload
PACKED_HEADER = 1 + _TABLE[0x18][1].size  # the same for a PACKED frame's block


def encode(frame: Frame) -> bytes:
    """Any frame as bytes. A text of more than `MAX_TEXT` bytes is cut, between two characters."""
    head, layout = _HEADS[type(frame)]
    if isinstance(frame, Refused):
        tail = frame.text.encode()[:MAX_TEXT].decode(errors="ignore").encode()
    elif isinstance(frame, Open):
        tail = frame.host.encode("ascii")
    elif isinstance(frame, (Data, Packed)):
        tail = frame[-1]
    elif isinstance(frame, Hello):
        return head + layout.pack(*frame, 0)
    else:
        return head + layout.pack(*frame)
    return head + layout.pack(*frame[:-1], len(tail)) + tail


def decode(packet: bytes, at: int = 0) -> tuple[Frame, int]:
    """Parse the frame that begins at `at`. Returns it and where the next one begins.

    Raises `RemoteProtocolError` where there is no valid frame.
    """
    if packet[at] not in _TABLE:
        raise RemoteProtocolError(f"unknown frame type 0x{packet[at]:02x}")
    cls, layout = _TABLE[packet[at]]
    end = at + 1 + layout.size
    if end > len(packet):
        raise RemoteProtocolError(f"{name(cls)} frame that is cut short")
    fields: tuple[Any, ...] = layout.unpack_from(packet, at + 1)
    if cls not in _WITH_TAIL:
        if (cls is Fin or cls is Credit or cls is Blocked) and max(fields[1:]) > MAX_OFFSET:
            raise RemoteProtocolError(f"{name(cls)} offset out of range, expected at most {MAX_OFFSET}")
        return cls._make(fields), end
    start, end = end, end + fields[-1]
    if end > len(packet):
        raise RemoteProtocolError(f"{name(cls)} frame that is cut short")
    return _with_tail(cls, fields[:-1], packet[start:end]), end


def decode_all(packet: bytes, at: int = 0) -> list[Frame]:
    """All frames from `at` to the end of the packet. Raises `RemoteProtocolError`."""
    found = []
    while at < len(packet):
        frame, at = decode(packet, at)
        found.append(frame)
    return found


def name(cls: type[Frame]) -> str:
    """The name of a frame type in SPEC.md."""
    return cls.__name__.upper()


def _with_tail(cls: type[Frame], fields: tuple[Any, ...], tail: bytes) -> Frame:
    if cls is Hello:  # a later version may append fields
        return Hello._make(fields)
    if cls is Refused:
        return Refused._make((*fields, printable(tail)))
    if cls is Open:
        return Open._make((*fields, _host(tail, fields[3])))
    if cls is Packed:
        return Packed._make((*fields, _block(tail, fields[2])))
    if not tail:
        raise RemoteProtocolError("DATA frame without bytes")
    return Data._make((*fields, tail))


def _host(tail: bytes, port: int) -> str:
    if not tail or not port:
        raise RemoteProtocolError("OPEN frame without a host or a port")
    if not all(0x21 <= byte <= 0x7E for byte in tail):
        raise RemoteProtocolError("OPEN frame whose host is not printable ASCII")
    return tail.decode("ascii")


def _block(tail: bytes, length: int) -> bytes:
    if not tail or not 0 < length <= MAX_RAW:
        raise RemoteProtocolError(f"PACKED frame of {length} bytes, expected 1 to {MAX_RAW}, in {len(tail)}")
    return tail


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


def close_code(code: int) -> CloseCode:
    """The code of a CLOSE. An unknown one, of a later version, becomes PROTOCOL_ERROR."""
    return _known(CloseCode, code, CloseCode.PROTOCOL_ERROR)


def _known(codes: type[E], code: int, otherwise: E) -> E:
    try:
        return codes(code)
    except ValueError:
        return otherwise
