"""Datagrams: sent once, in any order, or not at all.

What waits to be sent has a deadline and a bound: late ones are dropped, and where there are too many, the
oldest of their flow. Flows take turns. What is too long for a packet goes in parts, and is put together at
the other end or dropped as a whole.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from toxproxy.errors import LocalProtocolError
from toxproxy.mux import frames
from toxproxy.mux.frames import DATAGRAM_HEADER, PART_HEADER
from toxproxy.mux.limits import Allotment
from toxproxy.recovery.packet import HEADER
from toxproxy.recovery.sent import PACKET_SIZE

MOST_DATAGRAM = 0xFFFF  # bytes
LATE = 0.15  # seconds that a datagram may wait for its packet …
_BEGUN_LATE = 1.0  # … and in all, if a part of it has left
_WHOLE = PACKET_SIZE - HEADER - DATAGRAM_HEADER  # bytes: a longer one never fits into one packet
_LEAST_PART = 64  # bytes that are worth a part of their own
_OVERHEAD = 128  # bytes of memory for each datagram or part that waits, beside its contents
_MOST_WAITING, _LEAST_WAITING = 1 << 20, 64 * 1024  # bytes of memory for a session's; where it is short
_LEAST_SHARE = 4096  # of these for each flow, at least
_MOST_PARTIAL = 64  # datagrams of which parts have come; the oldest give way
_MOST_HELD = 1 << 20  # bytes of memory for them
_MOST_PARTS = 1 + MOST_DATAGRAM // _LEAST_PART  # of one, as an honest sender makes at most

Piece = bytes | memoryview


@dataclass(slots=True, eq=False)
class Flow:
    """What one stream of datagrams has carried, and what waits in it."""

    sent_bytes: int = 0
    received_bytes: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque)
    held: int = 0  # bytes of memory that these take
    number: int = 0  # of the next datagram


@dataclass(slots=True)
class _Waiting:
    """A datagram that was not sent, or not all of it."""

    data: bytes
    at: float  # since when
    number: int  # if it goes in parts
    offset: int = 0  # of what was not sent
    tried: bool = False  # a packet had no room for all of it

    def is_late(self, now: float) -> bool:
        return now - self.at > (_BEGUN_LATE if self.offset else LATE)


class Outgoing:
    """The datagrams of a session that wait for a packet, counted in `memory`."""

    def __init__(self, memory: Allotment) -> None:
        self.sent = self.dropped = 0  # datagrams
        self._memory = memory
        self._turns: OrderedDict[Flow, int] = OrderedDict()  # in which something waits, and their ids
        self._held = 0

    def __bool__(self) -> bool:
        """Whether anything waits. It may be late; then `fill` drops it."""
        return bool(self._turns)

    def push(self, id: int, flow: Flow, data: bytes, now: float) -> None:
        """Queue a datagram, at most `MOST_DATAGRAM` bytes, of the stream `id`."""
        if len(data) > MOST_DATAGRAM:
            raise LocalProtocolError(f"a datagram of {len(data)} bytes, expected {MOST_DATAGRAM} at most")
        most = self._memory.share(_LEAST_WAITING, _MOST_WAITING)
        share = max(most // max(1, len(self._turns)), _LEAST_SHARE)
        cost = len(data) + _OVERHEAD
        while flow.waiting and (flow.waiting[0].is_late(now) or flow.held + cost > share):
            self._drop(flow)
        if self._held + cost > 2 * most:  # so many flows that shares are more than there is
            self.dropped += 1
            return
        self._turns[flow] = id
        flow.waiting.append(_Waiting(data, now, flow.number))
        flow.number = (flow.number + 1) & 0xFFFF
        self._hold(flow, cost)

    def fill(self, pieces: list[Piece], room: int, now: float) -> int:
        """Append frames of at most `room` bytes to a packet. Returns how many bytes they have."""
        left, turns = room, self._turns
        while turns:
            flow, id = next(iter(turns.items()))
            while flow.waiting and flow.waiting[0].is_late(now):
                self._drop(flow)
            if not flow.waiting:
                del turns[flow]
            elif (frame := self._frame(id, flow, left)) is None:
                break
            else:
                pieces.append(frame)
                left -= len(frame)
                turns.move_to_end(flow)
        return room - left

    def end(self, flow: Flow) -> None:
        """The flow has ended: drop what waits."""
        while flow.waiting:
            self._drop(flow)
        self._turns.pop(flow, None)

    def _frame(self, id: int, flow: Flow, room: int) -> bytes | None:
        """The next frame of a flow; None if it has to wait for the next packet."""
        waiting = flow.waiting[0]
        data, at = waiting.data, waiting.offset
        if not at and len(data) + DATAGRAM_HEADER <= room:
            self._sent(flow)
            return frames.encode(frames.Datagram(id, data))
        waits = len(data) <= _WHOLE and not waiting.tried
        waiting.tried = True
        if waits or room < PART_HEADER + _LEAST_PART:
            return None
        waiting.offset = min(len(data), at + room - PART_HEADER)
        if waiting.offset == len(data):
            self._sent(flow)
        return frames.encode(frames.Part(id, waiting.number, len(data), at, data[at : waiting.offset]))

    def _sent(self, flow: Flow) -> None:
        flow.sent_bytes += len(self._pop(flow))
        self.sent += 1

    def _drop(self, flow: Flow) -> None:
        self._pop(flow)
        self.dropped += 1

    def _pop(self, flow: Flow) -> bytes:
        data = flow.waiting.popleft().data
        self._hold(flow, -len(data) - _OVERHEAD)
        return data

    def _hold(self, flow: Flow, size: int) -> None:
        flow.held += size
        self._held += size
        self._memory.hold(size)


class Assembly:
    """Puts the datagrams of a session together, counted in `memory`. Incomplete ones give way to newer."""

    def __init__(self, memory: Allotment) -> None:
        self.received = 0  # datagrams, whole
        self._memory = memory
        # By stream, number and size; the parts by their offsets.
        self._partial: OrderedDict[tuple[int, int, int], dict[int, bytes]] = OrderedDict()
        self._held = 0

    def add(self, frame: frames.Part) -> bytes | None:
        """A part came: the datagram, if that was the last one."""
        key = frame.stream, frame.number, frame.size
        parts = self._partial.setdefault(key, {})
        if frame.offset in parts:
            return None
        parts[frame.offset] = frame.payload
        self._hold(len(frame.payload) + _OVERHEAD)
        have = sum(map(len, parts.values()))
        if have >= frame.size or len(parts) > _MOST_PARTS:
            self._forget(key)
            return b"".join(parts[at] for at in sorted(parts)) if have == frame.size else None
        while len(self._partial) > _MOST_PARTIAL or self._held > _MOST_HELD:
            self._forget(next(iter(self._partial)))
        return None

    def _forget(self, key: tuple[int, int, int]) -> None:
        parts = self._partial.pop(key).values()
        self._hold(-sum(map(len, parts)) - _OVERHEAD * len(parts))

    def _hold(self, size: int) -> None:
        self._held += size
        self._memory.hold(size)
