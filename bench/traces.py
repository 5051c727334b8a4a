"""Traces: how much a mobile line carries from moment to moment, made from a seed. Pure.

A trace is a list of times in ms, rising; at each of them 1500 bytes may leave. The median rate, its
spread, how fast it changes and how often it is gone are like those that were recorded with phones in
moving cars (Winstein, Sivaraman, Balakrishnan: Stochastic Forecasts Achieve High Throughput and Low
Delay over Cellular Networks, NSDI 2013). The traces themselves are made up.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache

CHANCE_BYTES = 1500

_STEP = 10  # ms, for which the rate stays as it is
_FAST_MS = 100.0  # how long fast fading lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a trace is made from.

    `median` and `most` are rates in Mbit/s. `slow` and `fast` are the standard deviations of the rate's
    logarithm: with the surroundings, which change within `slow_ms`, and from one tenth of a second to the
    next. Outages come every `calm_ms` on average, and last `gone_ms` on average. `seconds` is the length.
    """

    seed: int
    median: float
    most: float
    slow: float
    slow_ms: float
    fast: float
    calm_ms: float
    gone_ms: float
    seconds: int = 120


SHAPES = {
    "lte-down": Shape(
        seed=9, median=3.6, most=20, slow=0.75, slow_ms=3000, fast=0.35, calm_ms=25_000, gone_ms=250
    ),
    "lte-up": Shape(
        seed=2, median=5.4, most=16, slow=0.65, slow_ms=3000, fast=0.35, calm_ms=25_000, gone_ms=250
    ),
    "umts-down": Shape(
        seed=3, median=1.9, most=7.2, slow=0.7, slow_ms=5000, fast=0.3, calm_ms=15_000, gone_ms=700
    ),
    "umts-up": Shape(
        seed=4, median=1.0, most=1.44, slow=0.5, slow_ms=5000, fast=0.3, calm_ms=20_000, gone_ms=700
    ),
}


def make(shape: Shape) -> list[int]:
    """The trace of a shape. The same shape makes the same trace."""
    dice = random.Random(shape.seed)
    slow, fast = dice.gauss(0, shape.slow), dice.gauss(0, shape.fast)
    back = dice.expovariate(1 / shape.calm_ms)  # when the next outage begins, then when it ends
    gone = False
    times: list[int] = []
    saved = 0.0  # bytes
    for now in range(0, 1000 * shape.seconds, _STEP):
        slow = _wander(dice, slow, shape.slow, shape.slow_ms)
        fast = _wander(dice, fast, shape.fast, _FAST_MS)
        while now >= back:
            gone = not gone
            back += dice.expovariate(1 / (shape.gone_ms if gone else shape.calm_ms))
        if gone:
            continue
        rate = min(shape.median * math.exp(slow + fast), shape.most)  # Mbit/s
        saved += rate * 125 * _STEP
        count, saved = divmod(saved, CHANCE_BYTES)
        times += sorted(now + dice.randrange(_STEP) for _ in range(int(count)))
    return [*times, 1000 * shape.seconds]


def _wander(dice: random.Random, value: float, spread: float, memory: float) -> float:
    """The next value of a random walk that is drawn back to 0: an Ornstein-Uhlenbeck process."""
    kept = math.exp(-_STEP / memory)
    return value * kept + dice.gauss(0, spread * math.sqrt(1 - kept * kept))


@cache
def named(name: str) -> tuple[int, ...]:
    """One of `SHAPES`, as a trace."""
    return tuple(make(SHAPES[name]))


def text(name: str) -> str:
    """One of `SHAPES`, as a file."""
    return "".join(f"{time}\n" for time in named(name))


def rate(name: str, seconds: float = 0) -> float:
    """The mean rate of one of `SHAPES` within its first seconds, or of all of it, in Mbit/s."""
    whole = SHAPES[name].seconds
    rounds, rest = divmod(seconds or whole, whole)
    times = named(name)
    count = rounds * len(times) + bisect_left(times, 1000 * rest)
    return count * CHANCE_BYTES * 8 / (seconds or whole) / 1e6
