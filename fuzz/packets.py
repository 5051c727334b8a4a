"""Packets as a hostile peer writes them, and what SPEC.md, section 3, says of them. Written by hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from fuzz.choices import Choices
from fuzz.peer import damaged

INTRODUCTION, ACK, PROBE = 1, 2, 4
_HEADER, _IDS, _MOST_RUNS = 4, 16, 64
_RUNS = (1, 1, 1, 2, 3, 0, 7, 40, 0xFFFF)
_GAPS = (0, 1, 1, 2, 5, 30, 0xFFFF)
_NEAR = (0, 0, 0, 1, -1, 2, -2, -7, -50, -300, 1000)
_EDGES = (0, 1, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
Runs = list[tuple[int, int]]  # so many numbers that came, then so many that did not


@dataclass
class Packet:
    """What a packet says."""

    number: int
    span: int = 0
    ids: tuple[int, int] | None = None
    largest: int | None = None  # acknowledged
    received: int = 0
    delay: int = 0
    runs: Sequence[tuple[int, int]] = ()
    probe: bool = False
    frames: bytes = b""

    @property
    def eliciting(self) -> bool:
        return self.probe or bool(self.frames)

    def written(self) -> bytes:
        said = b""
        flags = PROBE * self.probe
        if self.ids is not None:
            flags |= INTRODUCTION
            said += struct.pack("!QQ", *self.ids)
        if self.largest is not None:
            flags |= ACK
            said += struct.pack(
                "!HIIHB", self.span, self.largest & 0xFFFF_FFFF, self.received, self.delay, len(self.runs)
            )
            said += b"".join(struct.pack("!HH", *run) for run in self.runs)
        return struct.pack("!I", flags << 24 | self.number & 0xFF_FFFF) + said + self.frames

    def covers(self, number: int) -> bool:
        """Whether `number` is acknowledged. `largest` must be the whole number."""
        assert self.largest is not None
        high = self.largest
        for run, gap in self.runs:
            if high - run < number <= high:
                return True
            high -= run + gap
        return False


def read(data: bytes, *, introductions: bool) -> Packet | None:
    """None for a packet that is an error. Its number is the low 24 bits, those in it are the low 32 bits."""
    if len(data) < _HEADER or data[0] & ~7:
        return None
    flags, number = data[0], int.from_bytes(data[1:_HEADER])
    there, at = Packet(number, probe=bool(flags & PROBE)), _HEADER
    if flags & INTRODUCTION:
        if not introductions or len(data) < at + _IDS:
            return None
        there.ids = struct.unpack_from("!QQ", data, at)
        at += _IDS
    if flags & ACK:
        if len(data) < at + 13:
            return None
        there.span, there.largest, there.received, there.delay, count = struct.unpack_from("!HIIHB", data, at)
        at += 13
        if not 0 < count <= _MOST_RUNS or len(data) < at + 4 * count:
            return None
        there.runs = list(struct.iter_unpack("!HH", data[at : at + 4 * count]))
        at += 4 * count
    there.frames = data[at:]
    return there


def nearest(low: int, near: int, bits: int = 32) -> int:
    """The number with these low bits that is nearest to `near`."""
    base = near >> bits << bits
    return min(
        (base + low + step for step in (-(1 << bits), 0, 1 << bits)), key=lambda number: abs(number - near)
    )


def any_number(choices: Choices, likely: int) -> int:
    """A number at or near a likely one, at an edge, or anything."""
    match choices.integer(15):
        case 1:
            return choices.pick(_EDGES)
        case 2:
            return choices.integer(0xFFFF_FFFF)
    return max(0, likely + choices.pick(_NEAR)) & 0xFFFF_FFFF


def any_runs(choices: Choices) -> Runs:
    count = 1 + (choices.integer(63) if choices.integer(3) == 1 else choices.integer(3))
    return [(choices.pick(_RUNS), choices.pick(_GAPS)) for _ in range(count)]


def acknowledgement(choices: Choices, packet: Packet, sent: int, clock: int) -> Packet:
    """The packet with a well-formed acknowledgement, of numbers up to about `sent`, which is at least 1."""
    packet.largest = max(1, sent - choices.pick((0, 0, 0, 1, 2, 5, 40, 255)))
    packet.received = (clock + choices.pick((0, 0, 0, 25_000, -25_000, 1 << 30, 1 << 31))) & 0xFFFF_FFFF
    packet.delay = choices.pick((0, 60, 1, 300, 0xFFFF))
    packet.runs = any_runs(choices)
    return packet


def any_packet(choices: Choices, likely: int, sent: int) -> bytes:
    """One that is right, nearly, or anything. `likely` is the number due, `sent` one to acknowledge."""
    if choices.integer(15) == 1:
        return choices.chunk(1343)
    there = Packet(any_number(choices, likely), choices.pick((0, 1, 5, 40, 1000, 0xFFFF)))
    there.probe = choices.integer(3) == 1
    if choices.integer(7) == 1:
        there.ids = choices.integer(3), choices.integer(3)
    if choices.integer(1):
        there.largest = any_number(choices, sent)
        there.received, there.delay = choices.integer(0xFFFF_FFFF), choices.integer(0xFFFF)
        there.runs = [] if choices.integer(15) == 1 else any_runs(choices)
    there.frames = choices.chunk(30)
    return damaged(choices, there.written())
