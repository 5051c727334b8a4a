"""libtoxcore's count of friends that need a relay no more, and when it is wrong."""

from __future__ import annotations

import pytest

from toxproxy.tox.sleep_counts import SleepCounts

A, B = 0, 1


@pytest.fixture
def counts() -> SleepCounts:
    return SleepCounts()


def test_a_friend_that_loses_the_direct_path_needs_the_relays_anew(counts: SleepCounts) -> None:
    assert not counts.changed(A, relayed=True)
    assert not counts.changed(A, direct=True)
    assert counts.changed(A, relayed=True)
    assert not counts.changed(A, relayed=True)
    assert not counts.changed(A, direct=True)
    assert counts.changed(A, relayed=True)


def test_a_friend_that_was_away_is_counted_by_no_one(counts: SleepCounts) -> None:
    assert not counts.changed(A, direct=True)
    assert not counts.changed(A)
    assert not counts.changed(A, relayed=True)


def test_while_another_friend_is_relayed_the_counts_differ(counts: SleepCounts) -> None:
    assert not counts.changed(A, relayed=True)
    assert not counts.changed(B, direct=True)
    assert not counts.changed(B, relayed=True)
    assert counts.changed(A, direct=True)  # now B alone is relayed, and counted as direct


def test_a_friend_that_is_direct_again_is_counted_rightly(counts: SleepCounts) -> None:
    assert not counts.changed(A, relayed=True)
    assert not counts.changed(B, direct=True)
    assert not counts.changed(B, relayed=True)
    assert not counts.changed(B, direct=True)
    assert not counts.changed(A)


def test_a_friend_that_was_removed_holds_nothing_up(counts: SleepCounts) -> None:
    assert not counts.changed(A, relayed=True)
    assert not counts.changed(A)
    assert not counts.changed(B, direct=True)
    assert counts.changed(B, relayed=True)
