"""Whether a process was asleep."""

from __future__ import annotations

import time

import pytest

from toxproxy.tox.sleep import Sleep


def test_a_jump_of_the_clock_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "clock_gettime", lambda _: now)
    sleep = Sleep()
    assert sleep.slept() is None
    now += 1
    assert sleep.slept() is None, "a timer may be late"
    now += 100
    assert sleep.slept() == 100
    assert sleep.slept() is None
