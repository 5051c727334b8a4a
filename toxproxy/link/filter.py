"""A filter between ENet and the peer: only the datagrams that ENet 1.3.17 writes for a link may pass.

ENet trusts its peer. It allocates as many bytes as a fragment declares, and delivers them when the
declared number of fragments has come, whether they cover all bytes or not. It keeps everything that
comes ahead of a gap. So each datagram is parsed here before ENet sees it, and before one of this
side's leaves; SPEC.md, section 2, says what is allowed. The filter makes sure that:

- Each command is one that a link needs, with the fields and the length that ENet gives it.
- The fragments of a frame cover it exactly, and no two frames overlap in their sequence numbers.
- ENet keeps at most `MOST_HELD` bytes, and `MOST_FRAMES` frames for each channel, behind a gap. The
  next frame of a channel always passes, so that the gap can close.

Pure: it takes bytes and returns a verdict. The layouts are those of ENet's protocol.h, in network
byte order.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from struct import Struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

MTU = 1371  # bytes of a datagram: a Tox packet without packet id and epoch
PART = MTU - 28  # bytes of a frame in each fragment except the last; a shorter frame is one command
MOST_FRAME = 16 * 1024  # bytes
MOST_COMMANDS = 32  # in a datagram
MOST_HELD = 8 * 1024 * 1024  # bytes
MOST_FRAMES = 1024  # bounds the time that ENet needs to insert a frame: microseconds
MOST_AHEAD = 0x4000  # sequence numbers; ENet accepts up to 0x6000
FRAME_COST = 512  # bytes that ENet and this module allocate for a frame, beside its contents

_CONTROL = 0xFF  # the channel number of commands that belong to no channel
_FRAGMENT = 0x88  # SEND_FRAGMENT, to be acknowledged
_FRAMES = (0x86, _FRAGMENT)  # SEND_RELIABLE
_ACK = 0x01
_DISCONNECT = 0x44  # without sequence number, not to be acknowledged
_SHORTEST = 8  # bytes: a PING alone
_WHOLE = Struct("!xBHH")  # channel, sequence, length
_PIECE = Struct("!xBHHHIIII")  # channel, sequence, start, length, count, number, total, offset
_unpack_alone = Struct("!HxxBBHHHIIII").unpack_from  # peer id, command, channel, then as in `_PIECE`

# ENet's settings of a connection: mtu, window, channels, bandwidths, throttle interval and acceleration
_SETTINGS = Struct("!7I").pack(MTU, 65536, 255, 0, 0, 5000, 2)
_CONNECT = re.compile(
    rb"\x8f\xff..\x82\xff\x00\x01\x00\x00\xff\xff" + re.escape(_SETTINGS) + rb"\x00\x00\x00\x02....\x00{4}",
    re.DOTALL,
)
_VERIFY = re.compile(
    rb"\x80\x00..\x83\xff\x00\x01\x00\x00\x00\x00" + re.escape(_SETTINGS) + rb"\x00\x00\x00\x02....",
    re.DOTALL,
)
# With DISCONNECT, ENet drops everything else that it had to send, except a PING.
_END = re.compile(rb"\x00\x00\x44\xff..\x00{4}|\x80\x00..\x44\xff..\x00{4}\x85\xff..", re.DOTALL)
# An acknowledgement contains the sequence number twice.
_ACKS = re.compile(rb"(?:\x01.(..)\1..){1,%d}" % MOST_COMMANDS, re.DOTALL)
_UNTIMED = re.compile(rb"\x00\x00(?:\x01.(..)\1..){1,%d}" % MOST_COMMANDS, re.DOTALL)
_OTHERS = re.compile(
    rb"\x85\xff..|"  # PING
    rb"\x8a\xff..\x00{8}|"  # BANDWIDTH_LIMIT, of a host that has none
    rb"\x8b\xff..\x00\x00\x13\x88\x00\x00\x00\x02\x00\x00\x00\x00",  # THROTTLE_CONFIGURE, see `EnetLink`
    re.DOTALL,
)

# at, channel, start, count, number, total, end: see `parts`; a frame in one command has a count of 1
Part = tuple[int, int, int, int, int, int, int]
_NONE: list[Part] = []


def is_connect(datagram: Buffer) -> bool:
    """Whether this is the CONNECT of a link, after `mtu` was clamped."""
    return _CONNECT.fullmatch(datagram) is not None


def parts(datagram: bytes | bytearray | memoryview) -> list[Part] | None:
    """The frames and fragments in a datagram of a connection; None if ENet would not write such a datagram.

    For each: its position in the datagram, its channel, the first sequence number of its frame, the
    number of fragments of that frame, the index of this fragment, the length of the frame in bytes, and
    the position of the next command.
    """
    size = len(datagram)
    if size == MTU:  # nearly always one fragment
        head, kind, channel, sequence, start, length, count, number, total, offset = _unpack_alone(datagram)
        if kind == _FRAGMENT and head == 0x8000 and length == PART and channel != _CONTROL:
            fair = _is_fair(sequence, start, length, count, number, total, offset)
            return [(4, channel, start, count, number, total, MTU)] if fair else None
    elif size > MTU or size < _SHORTEST:
        return None
    if datagram[0] != 0x80 or datagram[1]:  # no sent time: no command that must be acknowledged
        return _NONE if _UNTIMED.fullmatch(datagram) or _END.fullmatch(datagram) else None
    at = 4
    if datagram[4] == _ACK:
        acks = _ACKS.match(datagram, 4)
        if acks is None or acks.end() == size:
            return None
        at = acks.end()
    elif datagram[4] == _DISCONNECT:
        return _NONE if _END.fullmatch(datagram) else None
    return _wanting_acknowledgement(datagram, at, MOST_COMMANDS - (at - 4) // 8)


def _wanting_acknowledgement(
    datagram: bytes | bytearray | memoryview, at: int, most: int
) -> list[Part] | None:
    """Parse the commands from `at` to the end of a datagram; at most `most` of them."""
    found: list[Part] = []
    size = len(datagram)
    while at < size:
        most -= 1
        if most < 0:
            return None
        kind = datagram[at]
        if kind in _FRAMES:
            part = _fragment(datagram, at) if kind == _FRAGMENT else _whole(datagram, at)
            if part is None or part[1] == _CONTROL:
                return None
            found.append(part)
            at = part[-1]
        elif other := _OTHERS.match(datagram, at):
            at = other.end()
        else:
            return None
    return found if at == size else None


def _whole(datagram: bytes | bytearray | memoryview, at: int) -> Part | None:
    if len(datagram) < at + _WHOLE.size:
        return None
    channel, start, total = _WHOLE.unpack_from(datagram, at)
    if not 0 < total <= PART:
        return None
    return at, channel, start, 1, 0, total, at + _WHOLE.size + total


def _fragment(datagram: bytes | bytearray | memoryview, at: int) -> Part | None:
    if len(datagram) < at + _PIECE.size:
        return None
    channel, sequence, start, length, count, number, total, offset = _PIECE.unpack_from(datagram, at)
    if not _is_fair(sequence, start, length, count, number, total, offset):
        return None
    return at, channel, start, count, number, total, at + _PIECE.size + length


def _is_fair(
    sequence: int, start: int, length: int, count: int, number: int, total: int, offset: int
) -> bool:
    """Whether ENet would cut a frame of `total` bytes in this way."""
    return (
        offset == number * PART
        and (length == PART if number < count - 1 else length == total - offset)
        and count == (total + PART - 1) // PART
        and number < count
        and PART < total <= MOST_FRAME
        and sequence == (start + number) & 0xFFFF
    )


@dataclass(slots=True)
class _Frame:
    """A frame that ENet holds: some of its fragments, or an earlier frame, are missing."""

    count: int
    total: int
    missing: int  # a bit for each fragment


@dataclass(slots=True)
class _Channel:
    """The frames that ENet holds of one channel."""

    next: int = 1  # the first sequence number of the next frame to deliver
    frames: dict[int, _Frame] = field(default_factory=dict)  # by their first sequence number


class Held:
    """Tracks which of the peer's frames ENet holds, and rejects those that would be too much."""

    def __init__(self) -> None:
        self.bytes = 0
        self._channels: dict[int, _Channel] = {}

    @property
    def frames(self) -> int:
        """How many frames ENet holds."""
        return sum(len(channel.frames) for channel in self._channels.values())

    def take(self, part: Part) -> bool:
        """Whether ENet may see a fragment; if so, it is counted."""
        _, number_of_channel, start, count, number, total, _ = part
        channel = self._channels.get(number_of_channel)
        if channel is None:
            channel = self._channels[number_of_channel] = _Channel()
        frame = channel.frames.get(start)
        if frame is None:
            ahead = (start - channel.next) & 0xFFFF
            if count == 1 and not ahead and not channel.frames:  # nearly always
                channel.next = (start + 1) & 0xFFFF
                return True
            if ahead >= 0x8000:  # it was delivered already
                # At a fragment with the last delivered sequence number, ENet drops the rest of the datagram.
                return count == 1 or ahead != 0xFFFF
            if not self._has_room(channel, ahead, start, count, total):
                return False
            frame = channel.frames[start] = _Frame(count, total, (1 << count) - 1)
            self.bytes += total + FRAME_COST
        elif frame.count != count or frame.total != total:
            return False
        frame.missing &= ~(1 << number)
        if not frame.missing and start == channel.next:
            self._deliver(channel)
        return True

    def continues(self, datagram: bytes | bytearray | memoryview) -> bool:
        """Take a datagram of `MTU` bytes where it is another fragment of a frame that was begun.

        Most datagrams of a transfer are. Any other is left to `parts` and `take`, as is a frame's last
        fragment. What was found right in the first fragment is not looked at again.
        """
        head, kind, number_of_channel, sequence, start, length, count, number, total, offset = _unpack_alone(
            datagram
        )
        if kind != _FRAGMENT or head != 0x8000 or length != PART:
            return False
        channel = self._channels.get(number_of_channel)
        frame = channel.frames.get(start) if channel is not None else None
        if (
            frame is None
            or frame.total != total
            or frame.count != count
            or number >= count - 1
            or offset != number * PART
            or sequence != (start + number) & 0xFFFF
        ):
            return False
        missing = frame.missing & ~(1 << number)
        if not missing:
            return False
        frame.missing = missing
        return True

    def _has_room(self, channel: _Channel, ahead: int, start: int, count: int, total: int) -> bool:
        frames = channel.frames
        if ahead and (
            ahead > MOST_AHEAD or len(frames) >= MOST_FRAMES or self.bytes + total + FRAME_COST > MOST_HELD
        ):
            return False
        return not frames or not _overlaps(frames, start, count)

    def _deliver(self, channel: _Channel) -> None:
        frames, at = channel.frames, channel.next
        while (frame := frames.get(at)) is not None and not frame.missing:
            del frames[at]
            self.bytes -= frame.total + FRAME_COST
            at = (at + frame.count) & 0xFFFF
        channel.next = at


def _overlaps(frames: dict[int, _Frame], start: int, count: int) -> bool:
    """Whether a new frame would share a sequence number with a frame that is held."""
    for back in range(1, _MOST_PARTS):
        before = frames.get((start - back) & 0xFFFF)
        if before is not None and before.count > back:
            return True
    return any((start + on) & 0xFFFF in frames for on in range(1, count))


_MOST_PARTS = (MOST_FRAME + PART - 1) // PART


class Filter:
    """Checks the datagrams of one link, in both directions.

    Set `up` as soon as ENet is connected. Until then, give each datagram to ENet before the next one is
    checked: ENet accepts frames only after the acknowledgement that connects it.
    """

    def __init__(self, *, connecting: bool) -> None:
        self.up = False
        self.held = Held()
        self._connecting = connecting

    def incoming(self, datagram: bytes | bytearray | memoryview) -> int:
        """How many of the first bytes of the peer's datagram may be passed to ENet.

        If a frame is too far ahead or contradicts another one, only the commands before it may pass.
        """
        if not self.up:
            self.held = Held()
        elif len(datagram) == MTU and self.held.continues(datagram):
            return MTU
        found = parts(datagram)
        if found is None:
            # ENet repeats CONNECT until it is answered, and the answer until it is acknowledged.
            is_handshake = self._is_handshake(datagram, of_connecting=not self._connecting)
            return len(datagram) if is_handshake else 0
        take = self.held.take
        for part in found:
            if not take(part):
                return part[0] if part[0] > 4 else 0
        return len(datagram)

    def outgoing(self, datagram: bytes | bytearray | memoryview) -> bool:
        """Whether a datagram that ENet wrote may be sent to the peer."""
        return parts(datagram) is not None or self._is_handshake(datagram, of_connecting=self._connecting)

    @staticmethod
    def _is_handshake(datagram: bytes | bytearray | memoryview, *, of_connecting: bool) -> bool:
        return (_CONNECT if of_connecting else _VERIFY).fullmatch(datagram) is not None
