"""Figures: what was measured, its samples, and whether it is good enough. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure should reach: at least `limit`, or at most `limit` with `at_most`."""

    limit: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        """Whether `value` is good enough."""
        return value <= self.limit if self.at_most else value >= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a row, with one sample or more. Its value is the median.

    A figure without a `bound` is shown for comparison only.
    """

    what: str
    unit: str
    samples: tuple[float, ...]
    bound: Bound | None = None

    def __post_init__(self) -> None:
        if not self.samples:
            raise ValueError(f"expected at least one sample of {self.what!r}, found none")

    @property
    def value(self) -> float:
        """The median of the samples."""
        return median(self.samples)

    @property
    def reached(self) -> bool | None:
        """Whether the value holds the bound. None without a bound."""
        return None if self.bound is None else self.bound.holds(self.value)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Figure:
        """What `dataclasses.asdict` made, there and back through JSON."""
        bound = None if data["bound"] is None else Bound(**data["bound"])
        return cls(data["what"], data["unit"], tuple(data["samples"]), bound)


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot: its name and its points."""

    name: str
    points: tuple[tuple[float, float], ...]

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Series:
        """What `dataclasses.asdict` made, there and back through JSON."""
        return cls(data["name"], tuple((x, y) for x, y in data["points"]))


def percentile(values: Sequence[float], share: float) -> float:
    """The percentile of `values` by the nearest-rank method. `share` is above 0 and at most 1.

    Raises `ValueError` without values, or for another `share`.
    """
    if not values or not 0 < share <= 1:
        raise ValueError(f"expected values and a share above 0 up to 1, found {len(values)} and {share}")
    return sorted(values)[math.ceil(share * len(values)) - 1]


def ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    """`over` divided by `under`, for each repetition. Infinite where `under` is 0."""
    return tuple(a / b if b else math.inf for a, b in zip(over, under, strict=True))


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How fast y grows with x, by linear least squares."""
    middle_x, middle_y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 if all shares are equal, 1 / n if one of n has everything; 1 for none.

    R. Jain, D. Chiu, W. Hawe, "A quantitative measure of fairness", DEC-TR-301, 1984.
    """
    squares = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else 1.0
