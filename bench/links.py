"""Links: the properties of the path between the two ends. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from bench import traces

_PERCENT = ("loss", "burst", "late", "duplication", "reordering", "corruption")


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What happens to the packets of one direction. What is not given does not happen.

    `delay` in ms. `jitter` in ms: between 0 and this is added, drawn again every 20 ms; packets stay in
    order. `rate` in Mbit/s of IP packets and `queue` in KiB: a packet that finds the queue full is
    dropped. 0 is no limit. `trace` replaces the rate: one of `traces.SHAPES`, or a file with a line for
    each chance to send 1500 bytes, in ms, repeated. `police` is a token bucket in front of the queue, in
    Mbit/s and KiB, which drops what exceeds it.

    The others are percentages of the packets. `loss` by chance; `burst` is the chance that a burst of
    losses begins with a packet, and that it ends with one (Gilbert and Elliott). `late` packets come
    5 ms and the jitter after the others. `duplication`, `reordering` (up to two delays late) and
    `corruption` (of one bit) are faults of which a good path has none.
    """

    delay: float = 0
    jitter: float = 0
    rate: float = 0
    queue: float = 0
    trace: str = ""
    police: tuple[float, float] = (0, 0)
    loss: float = 0
    burst: tuple[float, float] = (0, 0)
    late: float = 0
    duplication: float = 0
    reordering: float = 0
    corruption: float = 0

    def __post_init__(self) -> None:
        for key, value in self._given():
            most = 100 if key in _PERCENT else math.inf
            for number in value if isinstance(value, tuple) else (value,):
                if not isinstance(number, str) and not (0 <= number <= most and number < math.inf):
                    raise ValueError(
                        f"expected numbers from 0, percentages up to 100, found {key}={_text(value)}"
                    )

    def limits(self) -> list[str]:
        """What there is beside the delay, in words."""
        words = [
            (self.jitter, f"{self.jitter:g} ms jitter"),
            (self.loss, f"{self.loss:g} % loss"),
            (self.burst[0], "losses in bursts (begin {:g} %, end {:g} %)".format(*self.burst)),
            (self.late, f"{self.late:g} % late"),
            (self.police[0], "a policer of {:g} Mbit/s and {:g} KiB".format(*self.police)),
            (self.trace, f"the rate of {self.trace}"),
            (self.rate, f"{self.rate:g} Mbit/s"),
            (self.queue, f"{self.queue:g} KiB queue"),
            (self.duplication, f"{self.duplication:g} % duplicated"),
            (self.reordering, f"{self.reordering:g} % reordered"),
            (self.corruption, f"{self.corruption:g} % corrupted"),
        ]
        return [text for given, text in words if given]

    @property
    def capacity(self) -> float:
        """MB/s of IP packets. 0 means no limit, or one that is not known."""
        return self.within(0)

    def within(self, seconds: float) -> float:
        """The same for the first `seconds`, if it changes with the time; 0 seconds are all of them."""
        rate = traces.rate(self.trace, seconds) if self.trace in traces.SHAPES else self.rate
        limits = [limit for limit in (rate, self.police[0]) if limit]
        return min(limits) / 8 if limits else 0.0

    def words(self) -> list[str]:
        """The direction as KEY=VALUE, for `link.c` and for `parse`."""
        return [f"{key}={_text(value)}" for key, value in self._given()]

    def _given(self) -> list[tuple[str, float | str | tuple[float, float]]]:
        """The properties that are not as usual."""
        values = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return [(key, value) for key, value, usual in values if value != usual]


@dataclass(frozen=True, slots=True)
class Link:
    """A path between two ends, near and far. `down` leads from far to near, `up` from near to far."""

    name: str
    down: Direction
    up: Direction

    @classmethod
    def alike(cls, name: str, way: Direction) -> Link:
        """A link whose directions are alike."""
        return cls(name, way, way)

    def __str__(self) -> str:
        trip = f"{self.down.delay + self.up.delay:g} ms round trip"
        if self.down == self.up:
            return ", ".join([trip, *self.down.limits()])
        ways = (("down", self.down), ("up", self.up))
        return "; ".join([trip, *(f"{name}: {', '.join(way.limits()) or 'no limit'}" for name, way in ways)])

    @property
    def capacity(self) -> float:
        """MB/s of IP packets, down. 0 means no limit, or one that is not known."""
        return self.down.capacity

    def words(self) -> list[str]:
        """The link as words, for `link.c` and for `parse`."""
        if self.down == self.up:
            return self.down.words()
        return [f"down:{word}" for word in self.down.words()] + [f"up:{word}" for word in self.up.words()]


def _text(value: float | str | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return ":".join(map(_text, value))
    return value if isinstance(value, str) else f"{value:g}"


CLEAN = Link.alike("clean", Direction())
FAR = Link.alike("far", Direction(delay=25))
WAN = Link.alike("wan", Direction(delay=25, loss=1, rate=100, queue=600))
DEEP = Link.alike("deep", Direction(delay=25, rate=20, queue=2500))
SLOW = Link.alike("slow", Direction(delay=150, loss=2, rate=8, queue=200))

#: An international line or a mobile plan that drops what is above 20 Mbit/s, without a queue.
POLICED = Link.alike("policed", Direction(delay=60, police=(20, 60)))
#: A fast line behind a switch with a small buffer.
SHALLOW = Link.alike("shallow", Direction(delay=40, rate=100, queue=40))
#: A busy wireless network.
WIFI = Link.alike("wifi", Direction(delay=10, jitter=25, loss=0.5, rate=60, queue=500, late=0.5))
#: Losses that come together.
BURST = Link.alike("burst", Direction(delay=40, rate=50, queue=500, burst=(0.1, 8)))
#: A phone in a moving car.
LTE = Link(
    "lte",
    Direction(delay=20, queue=600, trace="lte-down"),
    Direction(delay=20, queue=600, trace="lte-up"),
)
#: The same with 3G.
UMTS = Link(
    "umts",
    Direction(delay=40, queue=300, trace="umts-down"),
    Direction(delay=40, queue=150, trace="umts-up"),
)
#: A home line, whose uplink carries the acknowledgements too.
ADSL = Link("adsl", Direction(delay=15, rate=16, queue=400), Direction(delay=15, rate=1, queue=64))

LINKS = {
    link.name: link for link in (CLEAN, FAR, WAN, DEEP, SLOW, POLICED, SHALLOW, WIFI, BURST, LTE, UMTS, ADSL)
}


def parse(words: Iterable[str]) -> Link:
    """A link from words: a name, or KEY=VALUE, or a name and what is different. Commas separate words too.

    `down:` or `up:` before a KEY=VALUE is for that direction alone. Raises `ValueError` for anything else.
    """
    words = [word for part in words for word in part.split(",") if word]
    name = words[0] if words and "=" not in words[0] else ""
    if (name and name not in LINKS) or not words:
        raise ValueError(f"expected one of {', '.join(LINKS)}, or KEY=VALUE…, found {name!r}")
    link = LINKS.get(name, CLEAN)
    if len(words) == bool(name):
        return link
    down, up = link.down, link.up
    for word in words[bool(name) :]:
        way, colon, rest = word.partition(":")
        one = way if colon and way in ("down", "up") else ""
        key, value = _pair(rest if one else word)
        if one != "up":
            down = replace(down, **{key: value})
        if one != "down":
            up = replace(up, **{key: value})
    return Link(",".join(words), down, up)


def _pair(word: str) -> tuple[str, Any]:
    """The key and the value of KEY=VALUE."""
    key, equals, text = word.partition("=")
    known = {field.name: field.default for field in fields(Direction)}
    if not equals or key not in known:
        raise ValueError(f"expected KEY=VALUE with a key of {', '.join(known)}, found {word!r}")
    if isinstance(known[key], str):
        return key, text
    size = 2 if isinstance(known[key], tuple) else 1
    try:
        numbers = tuple(map(float, text.split(":")))
    except ValueError:
        numbers = ()
    if len(numbers) != size:
        what = "a number" if size == 1 else "two numbers with a colon between them"
        raise ValueError(f"expected {what}, found {word!r}")
    return key, numbers if size == 2 else numbers[0]
