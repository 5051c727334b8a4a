"""The plan of a run, made from a seed: what each stream does, and when the path is cut. Pure.

Both ends make the same plan, so a connection need only tell the number of its stream.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Self

_SLOWEST = 25_000  # bytes per second that a stream gets at least, beside all other streams
_SIZES = ((0, 0), (1, 1 << 16), (1 << 16, 1 << 20), (1 << 20, 6 << 20))  # bytes, from and to
_SIZE_WEIGHTS = (10, 60, 25, 5)
_ACTED_ON = (1 << 14, 1 << 21)  # bytes sent to the side that stalls or resets: enough to have a middle


class Side(Enum):
    """An end of a stream: near is at the client, far at the server."""

    NEAR = "near"
    FAR = "far"

    @property
    def other(self) -> Side:
        """The opposite end."""
        return Side.FAR if self is Side.NEAR else Side.NEAR


class Way(Enum):
    """The port of the client through which a stream goes."""

    FORWARD = "forward"
    SOCKS = "socks"


class Kind(Enum):
    """What is special about a stream."""

    TOGETHER = "both at once"
    NEAR_FIRST = "near sends and ends, then far"
    FAR_FIRST = "far sends and ends, then near"
    STALL = "a reader stalls"
    RESET = "reset in the middle"


_KIND_WEIGHTS = {Kind.TOGETHER: 40, Kind.NEAR_FIRST: 20, Kind.FAR_FIRST: 15, Kind.STALL: 10, Kind.RESET: 15}


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream: `up` bytes from the near end, `down` bytes from the far end.

    In a STALL or RESET the `actor` stalls or resets when it has got the `share` (0 to 1) of what the
    other side sends, but at least one byte. A stall lasts `pause` seconds.
    """

    number: int
    way: Way
    kind: Kind
    up: int
    down: int
    actor: Side
    share: float
    pause: float

    def size(self, sender: Side) -> int:
        """Bytes that a side sends, unless the stream is reset earlier."""
        return self.up if sender is Side.NEAR else self.down

    @property
    def after(self) -> int:
        """Bytes that the actor gets before it stalls or resets."""
        return max(1, int(self.share * self.size(self.actor.other)))


@dataclass(frozen=True, slots=True)
class Cut:
    """The path works for `peace` seconds and is then cut for `seconds`."""

    peace: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of a run. Times are in seconds; pairs are a lowest and a highest value.

    `streams` is their number. The first `warm` of them are a round of their own, before memory is first
    measured. `at_once` of them run at a time. `total` is the most bytes that they carry. `stall` is the
    longest stall. A `cut` comes after `peace`. A stream is hung after `patience` and the time that its
    bytes take.
    """

    streams: int
    warm: int
    at_once: int
    total: int
    stall: float
    peace: tuple[float, float]
    cut: tuple[float, float]
    patience: float


@dataclass(frozen=True)
class Plan:
    """The plan of a run."""

    seed: int
    shape: Shape
    streams: tuple[Stream, ...]

    @classmethod
    def make(cls, seed: int, shape: Shape) -> Self:
        """The plan for a seed and a shape. The same arguments give the same plan."""
        drawn = [_draw(seed, number, shape) for number in range(shape.streams)]
        factor = min(1.0, shape.total / max(1, sum(stream.up + stream.down for stream in drawn)))
        streams = tuple(
            replace(stream, up=math.ceil(stream.up * factor), down=math.ceil(stream.down * factor))
            for stream in drawn
        )
        return cls(seed, shape, streams)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The plan that `to_json` described."""
        data = json.loads(text)
        shape = data["shape"] | {name: tuple(data["shape"][name]) for name in ("peace", "cut")}
        return cls.make(data["seed"], Shape(**shape))

    def to_json(self) -> str:
        """A description from which another process makes the same plan."""
        return json.dumps({"seed": self.seed, "shape": asdict(self.shape)})

    def rounds(self) -> tuple[tuple[Stream, ...], tuple[Stream, ...]]:
        """The streams of the two rounds: before memory is first measured, and after."""
        return self.streams[: self.shape.warm], self.streams[self.shape.warm :]

    def cuts(self, turn: int = 0) -> Iterator[Cut]:
        """The cuts of a round, 0 or 1. An endless iterator.

        Short cuts are more frequent. The longest possible cut comes first, so that both rounds make the
        processes hold as much as they ever do.
        """
        dice = random.Random(f"{self.seed} cuts {turn}")
        yield Cut(self.shape.peace[0], self.shape.cut[1])
        while True:
            yield Cut(dice.uniform(*self.shape.peace), _between(dice, *self.shape.cut))

    def bound(self, stream: Stream) -> float:
        """Seconds after which a stream counts as hung."""
        return self.shape.patience + stream.pause + (stream.up + stream.down) / _SLOWEST


def _draw(seed: int, number: int, shape: Shape) -> Stream:
    dice = random.Random(f"{seed} stream {number}")
    (kind,) = dice.choices(list(_KIND_WEIGHTS), list(_KIND_WEIGHTS.values()))
    up, down = (_size(dice) for _ in Side)
    if kind is Kind.TOGETHER:
        up, down = dice.choice(((up, down), (up, 0), (0, down)))
    actor = dice.choice(list(Side))
    if kind in (Kind.STALL, Kind.RESET):
        size = round(_between(dice, *_ACTED_ON))
        up, down = (up, size) if actor is Side.NEAR else (size, down)
    return Stream(
        number,
        way=dice.choice(list(Way)),
        kind=kind,
        up=up,
        down=down,
        actor=actor,
        share=dice.random(),
        pause=dice.uniform(0, shape.stall) if kind is Kind.STALL else 0.0,
    )


def _size(dice: random.Random) -> int:
    """Bytes of one direction: mostly few, sometimes none or millions."""
    ((low, high),) = dice.choices(_SIZES, _SIZE_WEIGHTS)
    return round(_between(dice, low, high)) if high else 0


def _between(dice: random.Random, low: float, high: float) -> float:
    """A number with a logarithmic distribution: every power of ten is equally likely."""
    return math.exp(dice.uniform(math.log(low), math.log(high)))
