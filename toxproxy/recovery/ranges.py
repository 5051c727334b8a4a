"""A set of integers, kept as runs: which packets came, which stream ids were used, which bytes arrived."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Disjoint runs of integers, ascending. A run contains its first number, and not its end.

    Runs that touch are one. Adding at the end takes constant time, elsewhere the time of a binary search
    and of moving the runs behind. The caller bounds the number of runs.
    """

    __slots__ = ("_ends", "_starts")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __len__(self) -> int:
        """The number of runs."""
        return len(self._starts)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._starts, number) - 1
        return at >= 0 and number < self._ends[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs as (first, end), the last one first."""
        return zip(reversed(self._starts), reversed(self._ends), strict=True)

    def add(self, start: int, end: int) -> list[tuple[int, int]]:
        """Add the numbers from `start` to before `end`. Returns the runs of those that are new."""
        starts, ends = self._starts, self._ends
        if ends and start == ends[-1]:  # nearly always
            ends[-1] = end
            return [(start, end)]
        first = bisect_left(ends, start)  # the first run that touches or follows `start`
        last = bisect_right(starts, end)  # the first run that begins after `end` and does not touch it
        new, at = [], start
        for index in range(first, last):
            if at < starts[index]:
                new.append((at, min(end, starts[index])))
            at = max(at, ends[index])
        if at < end:
            new.append((at, end))
        if first < last:
            start, end = min(start, starts[first]), max(end, ends[last - 1])
        starts[first:last] = [start]
        ends[first:last] = [end]
        return new

    def drop_below(self, number: int) -> None:
        """Remove all numbers below `number`."""
        starts, ends = self._starts, self._ends
        if not starts or starts[0] >= number:
            return
        gone = bisect_right(ends, number)
        del starts[:gone], ends[:gone]
        if starts and starts[0] < number:
            starts[0] = number

    def drop_first(self) -> int:
        """Remove the first run; returns its end."""
        del self._starts[0]
        return self._ends.pop(0)
