"""Runs of integers, held against a set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.recovery.ranges import Ranges

_PAIRS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 12)), max_size=30)


def _runs(numbers: set[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number:
            runs[-1] = runs[-1][0], number + 1
        else:
            runs.append((number, number + 1))
    return runs


@given(_PAIRS, st.integers(0, 70))
def test_as_a_set(pairs: list[tuple[int, int]], low: int) -> None:
    ranges, numbers = Ranges(), set[int]()
    for start, length in pairs:
        fresh = set(range(start, start + length)) - numbers
        assert ranges.add(start, start + length) == _runs(fresh)
        numbers |= fresh
        assert list(ranges) == _runs(numbers)[::-1]
    assert all((number in ranges) is (number in numbers) for number in range(80))
    ranges.drop_below(low)
    assert list(ranges) == _runs({number for number in numbers if number >= low})[::-1]


def test_the_first_run_goes_first() -> None:
    ranges = Ranges()
    ranges.add(1, 3)
    ranges.add(5, 9)
    assert ranges.drop_first() == 3
    assert list(ranges) == [(5, 9)]
