"""A filter between ENet and the peer: only the datagrams that ENet 1.3.17 writes for a link may pass.

ENet trusts its peer. It allocates as many bytes as a fragment declares, and delivers them when the
declared number of fragments has come, whether they cover all bytes or not. It keeps everything that
comes ahead of a gap. None of that can be reached here: a link needs a short list of commands, each with
one length, and a datagram is parsed to its end before ENet sees it, and before one of this side's
leaves. SPEC.md, section 2, says what is allowed. Reliable data, fragments and sequenced packets are not.

What a datagram that passes can make ENet do is bounded:

- A packet takes as many bytes as the datagram has.
- Each of at most `MOST_ASKING` commands makes ENet write an acknowledgement of 8 bytes.
- For each of at most `MOST_COMMANDS` acknowledgements ENet looks through what it waits to be
  acknowledged, which is a few pings.

Pure: it takes bytes and returns a verdict. The layouts are those of ENet's protocol.h, in network
byte order.
"""

from __future__ import annotations

import re
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MTU = 1371  # bytes of a datagram: a Tox packet without packet id and epoch
PACKET_SIZE = MTU - 28  # bytes: ENet would cut a longer packet into reliable fragments
MOST_COMMANDS = 32  # in a datagram: ENET_PROTOCOL_MAXIMUM_PACKET_COMMANDS
MOST_ASKING = 16  # of them are commands to be acknowledged
PACKET_AT = 10  # where the packet begins in a datagram that carries one packet and nothing else
_GROUP = 2  # bytes of a packet's group
_LARGEST = PACKET_AT + PACKET_SIZE

_TIMED = 4  # bytes of ENet's header with the time of sending
_HEADERS = {b"\x00\x00": 2, b"\x80\x00": _TIMED}  # of peer 0, session 0
_UNSEQUENCED = 0x49
_ALONE = 0x0000_4900  # the header without time, then a packet on channel 0
_PACKET_HEADER = 8  # bytes in front of each packet
_ALONE_BEGIN = bytes.fromhex("0000 4900 0000")  # the same and the number; the group and the length follow
_unpack_alone = Struct("!IHxxH").unpack_from  # header and command, number, length
_unpack_packet = Struct("!HHxxH").unpack_from  # command and channel, number, group, length
_PACKET = _UNSEQUENCED << 8  # on channel 0

# ENet's settings of a connection: mtu, window, channels, bandwidths, throttle interval and acceleration
_SETTINGS = Struct("!7I").pack(MTU, 65536, 1, 0, 0, 5000, 2)
_CONNECT = re.compile(
    rb"\x8f\xff..\x82\xff\x00\x01\x00\x00\xff\xff" + re.escape(_SETTINGS) + rb"\x00\x00\x00\x02(....)\x00{4}",
    re.DOTALL,
)
_CONNECT_SIZE, _CONNECT_COMMAND, _CONNECT_MTU = 52, 0x82, slice(12, 16)
_VERIFY = re.compile(
    rb"\x80\x00..\x83\xff\x00\x01\x00\x00\x00\x00" + re.escape(_SETTINGS) + rb"\x00\x00\x00\x02....",
    re.DOTALL,
)
# With DISCONNECT, ENet drops everything else that it had to send, except a PING.
_END = re.compile(rb"\x00\x00\x44\xff..\x00{4}|\x80\x00..\x44\xff..\x00{4}\x85\xff..", re.DOTALL)
# An acknowledgement contains the sequence number twice. What is acknowledged belongs to no channel.
_ACKS = re.compile(rb"(?:\x01\xff(..)\1..){1,%d}" % MOST_COMMANDS, re.DOTALL)
_ACK_SIZE = 8
_ASKING = re.compile(
    rb"\x85\xff..|"  # PING
    rb"\x8a\xff..\x00{8}|"  # BANDWIDTH_LIMIT, of a host that has none
    rb"\x8b\xff..\x00\x00\x13\x88\x00\x00\x00\x02\x00\x00\x00\x00",  # THROTTLE_CONFIGURE, see `EnetLink`
    re.DOTALL,
)


def connect_id(datagram: Buffer) -> bytes | None:
    """The random bytes by which the CONNECT of a link names its connection; None for another datagram."""
    connect = _CONNECT.fullmatch(datagram)
    return None if connect is None else connect[1]


def lower_mtu(datagram: memoryview) -> None:
    """Ask for datagrams of `MTU` bytes in a CONNECT that ENet wrote; both sides then keep to that."""
    if len(datagram) == _CONNECT_SIZE and datagram[4] == _CONNECT_COMMAND:
        datagram[_CONNECT_MTU] = MTU.to_bytes(4)


def is_packet(buffer: Buffer, at: int, length: int) -> bool:
    """Whether the `length` bytes from `at` carry one packet and nothing else. Nearly all datagrams do.

    The packet begins at `PACKET_AT`.
    """
    if not PACKET_AT < length <= _LARGEST:
        return False
    return bool(_unpack_alone(buffer, at) == (_ALONE, 0, length - PACKET_AT))


def alone(bare: bytes) -> bytes:
    """The datagram that carries one packet and nothing else, from its group and the packet."""
    packet = bare[_GROUP:]
    return _ALONE_BEGIN + bare[:_GROUP] + len(packet).to_bytes(2) + packet


def packets_in(datagram: bytes | bytearray | memoryview, *, from_client: bool) -> int | None:
    """How many packets are in a datagram of the client's, or of the server's; None if it may not pass.

    Those of the handshake have none. They may come again: each side repeats its part until it is answered.
    """
    size = len(datagram)
    if is_packet(datagram, 0, size):
        return 1
    if (_CONNECT if from_client else _VERIFY).fullmatch(datagram):
        return 0
    begin = at = _HEADERS.get(bytes(datagram[:2]), 0)
    if not at or not 8 <= size <= MTU:  # the shortest is a PING alone
        return None
    if _END.fullmatch(datagram):
        return 0
    commands = packets = asking = 0
    if acks := _ACKS.match(datagram, at):
        at = acks.end()
        commands = (at - begin) // _ACK_SIZE
    while at < size:
        if end := _packet_end(datagram, at):
            packets += 1
            at = end
        elif command := _ASKING.match(datagram, at):
            asking += 1
            at = command.end()
        else:
            return None
    commands += packets + asking
    # ENet says when it sent a datagram if, and only if, something in it is to be acknowledged.
    fair = commands <= MOST_COMMANDS and asking <= MOST_ASKING and bool(asking) == (begin == _TIMED)
    return packets if fair else None


def _packet_end(datagram: bytes | bytearray | memoryview, at: int) -> int:
    """The end of the packet at `at`; 0 if there is none, or not all of it."""
    if len(datagram) <= at + _PACKET_HEADER:
        return 0
    command, number, length = _unpack_packet(datagram, at)
    end: int = at + _PACKET_HEADER + length
    fair = command == _PACKET and not number and 0 < length <= PACKET_SIZE and end <= len(datagram)
    return end if fair else 0
