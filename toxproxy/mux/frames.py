"""The frames of the protocol: a class for each type, and one table of all types.

A frame is a type byte, fixed fields in network byte order, and for some types a tail, whose length is the
last of the fixed fields. A class has the fields of SPEC.md, and the tail for its length.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, NamedTuple

from toxproxy.errors import CloseCode, Refusal, RemoteProtocolError, ResetCode
from toxproxy.recovery.packet import cut, printable

MAX_STREAM = 0xFFFF_FFFF
MAX_RAW = 64 * 1024  # bytes that a PACKED frame may hold, decompressed
TCP, UDP, OPEN_UDP = 0x01, 0x02, 0x03  # kinds of streams; the last two are flows of datagrams
PLAIN = 0x80  # added to the kind: the opener takes no PACKED frames of this stream
LZ4 = 0x01  # a bit of HELLO's features: this side understands PACKED frames
DATAGRAMS = 0x02  # another: it understands flows of datagrams
LISTENS = 0x04  # another: as a server it listens for its clients, where they may have that


class Hello(NamedTuple):
    """The first frame of each side: its protocol versions, its session id, and its limits."""

    oldest: int  # the lowest protocol version that the sender understands
    newest: int  # the highest
    session: int  # 64 random bits, new for every session
    features: int  # bits: LZ4, DATAGRAMS, LISTENS
    window: int  # the early window: bytes that may follow an OPEN before OPENED
    streams: int  # how many streams the peer may have open at once
    more: bytes = b""  # fields of a later version


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


class Bulk(NamedTuple):
    """The same without a length, to the end of the packet; `offset` is modulo 2**32."""

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


class Datagram(NamedTuple):
    """A whole datagram of a flow."""

    stream: int
    payload: bytes


class Part(NamedTuple):
    """Bytes of a datagram of `size` bytes, from `offset` on. Its parts have the same `number`."""

    stream: int
    number: int
    size: int
    offset: int
    payload: bytes


Frame = (
    Hello | Ping | Pong | Open | Opened | Refused | Data | Bulk | Packed | Fin | Reset | Credit
    | Datagram | Part
)  # fmt: skip


def _host(tail: bytes) -> str:
    if not tail or not all(0x21 <= byte <= 0x7E for byte in tail):
        raise RemoteProtocolError("OPEN frame whose host is not printable ASCII")
    return tail.decode("ascii")


def _bytes(tail: bytes) -> bytes:
    if not tail:
        raise RemoteProtocolError("DATA, BULK, PACKED or PART frame without bytes")
    return tail


# type byte: the frame's class, the layout of its fixed fields, and what reads its tail; BULK has no length
_TABLE: dict[int, tuple[type[Frame], Struct, Callable[[bytes], object] | None]] = {
    0x01: (Hello, Struct("!BBQIIIB"), bytes),
    0x02: (Ping, Struct("!Q"), None),
    0x03: (Pong, Struct("!Q"), None),
    0x10: (Open, Struct("!IBIHB"), _host),
    0x11: (Opened, Struct("!II"), None),
    0x12: (Refused, Struct("!IBH"), printable),
    0x13: (Data, Struct("!IQH"), _bytes),
    0x14: (Fin, Struct("!IQ"), None),
    0x15: (Reset, Struct("!IB"), None),
    0x16: (Credit, Struct("!IQQ"), None),
    0x17: (Bulk, Struct("!HI"), _bytes),
    0x18: (Packed, Struct("!IQIH"), _bytes),
    0x20: (Datagram, Struct("!IH"), bytes),
    0x21: (Part, Struct("!IHHHH"), _bytes),
}
_HEADS = {cls: (bytes((number,)), layout, tail) for number, (cls, layout, tail) in _TABLE.items()}

DATA_TYPE, BULK_TYPE = 0x13, 0x17
_DATA = Struct("!BIQH")  # the header of a DATA frame: type, stream, offset, length
BULK = Struct("!BHI")  # the header of a BULK frame: type, stream, offset
DATA_HEADER, BULK_HEADER = _DATA.size, BULK.size  # bytes in front of the payload
_MOST_BULK = 0xFFFF  # the highest stream in a BULK frame
PACKED_HEADER = 1 + _TABLE[0x18][1].size  # the same for a PACKED frame's block
DATAGRAM_HEADER = 1 + _TABLE[0x20][1].size
PART_HEADER = 1 + _TABLE[0x21][1].size


def data(stream: int, offset: int, waiting: int, room: int) -> tuple[bytes, int]:
    """The header of a BULK frame where that many `waiting` bytes fill the room, else of a DATA frame.

    Returns also how many of the bytes go with it.
    """
    length = room - BULK_HEADER
    if waiting >= length and stream <= _MOST_BULK:
        return BULK.pack(BULK_TYPE, stream, offset & 0xFFFF_FFFF), length
    length = min(waiting, room - DATA_HEADER)
    return _DATA.pack(DATA_TYPE, stream, offset, length), length


def encode(frame: Frame) -> bytes:
    """Any frame as bytes. A long text is cut: see `packet.cut`."""
    head, layout, with_tail = _HEADS[type(frame)]
    if with_tail is None:
        return head + layout.pack(*frame)
    fields: list[Any] = list(frame)
    tail = fields.pop()
    if isinstance(tail, str):
        tail = cut(tail)
    if not isinstance(frame, Bulk):
        fields.append(len(tail))
    return b"".join((head, layout.pack(*fields), tail))


def decode(packet: bytes, at: int = 0) -> tuple[Frame, int]:
    """The frame that begins at `at`, and where the next one begins. Raises `RemoteProtocolError`."""
    if packet[at] not in _TABLE:
        raise RemoteProtocolError(f"unknown frame type 0x{packet[at]:02x}")
    cls, layout, read_tail = _TABLE[packet[at]]
    start = end = at + 1 + layout.size
    fields: list[Any] = []
    if end <= len(packet):
        fields += layout.unpack_from(packet, at + 1)
        if read_tail:
            end = len(packet) if cls is Bulk else end + fields.pop()
    if end > len(packet):
        raise RemoteProtocolError(f"{name(cls)} frame that is cut short")
    if read_tail:
        fields.append(read_tail(packet[start:end]))
    frame = cls._make(fields)
    if isinstance(frame, Open) and not frame.port:
        raise RemoteProtocolError("OPEN frame without a port")
    if isinstance(frame, Packed) and not 0 < frame.length <= MAX_RAW:
        raise RemoteProtocolError(f"PACKED frame of {frame.length} bytes, expected 1 to {MAX_RAW}")
    if isinstance(frame, Part) and frame.offset + len(frame.payload) > frame.size:
        raise RemoteProtocolError(f"PART frame beyond the {frame.size} bytes of its datagram")
    return frame, end


def name(cls: type[Frame]) -> str:
    """The name of a frame type in SPEC.md."""
    return cls.__name__.upper()


def reset_code(code: int) -> ResetCode:
    """The code of a RESET. An unknown one, of a later version, becomes CONNECTION_RESET."""
    return ResetCode(code) if code in set(ResetCode) else ResetCode.CONNECTION_RESET


def refusal(code: int) -> Refusal:
    """The code of a REFUSED. An unknown one becomes FAILED, and OFFLINE, which no peer may say."""
    return Refusal(code) if code in set(Refusal) - {Refusal.OFFLINE} else Refusal.FAILED


def close_code(code: int) -> CloseCode:
    """The code of a CLOSE. An unknown one, of a later version, becomes PROTOCOL_ERROR."""
    return CloseCode(code) if code in set(CloseCode) else CloseCode.PROTOCOL_ERROR
