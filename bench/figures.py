"""Figures: what was measured, how often, and whether that is enough. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure should reach: `limit` or more, or, with `at_most`, `limit` or less."""

    limit: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, measured once or several times in a run; its value is the median.

    Without a `bound` it is there to compare with.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    bound: Bound | None = None

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"expected a sample or more of {self.what!r}, found none")

    @property
    def value(self) -> float:
        """The median of the samples."""
        return median(self.samples)

    @property
    def reached(self) -> bool | None:
        """Whether the value is good enough; None where nothing is asked of it."""
        return None if self.bound is None else self.bound.holds(self.value)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figure:
        """What `dataclasses.asdict` made, there and back through JSON."""
        bound = None if data["bound"] is None else Bound(**data["bound"])
        return cls(data["what"], data["unit"], tuple(data["samples"]), bound)


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a plot."""

    name: str
    points: tuple[tuple[float, float], ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Series:
        """What `dataclasses.asdict` made, there and back through JSON."""
        return cls(data["name"], tuple((x, y) for x, y in data["points"]))


def percentile(values: Sequence[float], share: float) -> float:
    """The least of `values` that `share` of them (0 to 1, not 0) do not exceed: the nearest rank.

    Raises `ValueError` without values.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"expected values and a share above 0 up to 1, found {len(values)} and {share}")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """Repetition by repetition, `over` divided by `under`; infinite where that is 0."""
    return tuple(a / b if b else math.inf for a, b in zip(over, under, strict=True))


def distribution(values: Sequence[float], steps: int = 100) -> tuple[tuple[float, float], ...]:
    """(value, percent that is no more than it), for a plot of at most `steps` points."""
    return tuple((percentile(values, step / steps), 100 * step / steps) for step in range(1, steps + 1))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How fast y grows with x: the line with the least squares."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
