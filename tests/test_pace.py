"""Limits on how often something may happen, and growing pauses."""

from __future__ import annotations

import logging
import time

import pytest

from toxproxy import pace
from toxproxy.pace import Backoff, Notice, Pace, TokenBucket


def test_no_more_than_the_limit_within_a_minute() -> None:
    requests = Pace(3)
    assert [requests.take() for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_limit_of_0_permits_nothing() -> None:
    assert not Pace(0).take()


def test_what_happened_a_minute_ago_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "MINUTE", 0.1)
    requests = Pace(2)
    assert [requests.take() for _ in range(3)] == [True, True, False]
    time.sleep(0.15)
    assert [requests.take() for _ in range(3)] == [True, True, False]


def test_a_flood_of_notices_is_a_log_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pace, "MINUTE", 0.1)
    notice = Notice(logging.getLogger("flood"), logging.WARNING)
    for number in range(1000):
        notice("client %d was turned away", number)
    time.sleep(0.15)
    notice("client %d was turned away", 1000)
    time.sleep(0.15)
    notice("client %d was turned away", 1001)
    assert caplog.messages == [
        "client 0 was turned away",
        "client 1000 was turned away (and 999 more of these before)",
        "client 1001 was turned away",
    ]


def test_a_few_notices_are_all_logged(caplog: pytest.LogCaptureFixture) -> None:
    notice = Notice(logging.getLogger("login"), logging.WARNING, most=3)
    for number in range(10):
        notice("wrong password %d", number)
    assert caplog.messages == [f"wrong password {number}" for number in range(3)]


def test_a_back_off_begins_with_no_pause_and_doubles_up_to_its_limit() -> None:
    backoff = Backoff(first=1.0, most=30.0)
    pauses = [backoff.pause() for _ in range(10)]
    assert pauses[0] == 0.0
    for pause, most in zip(pauses[1:], (1, 2, 4, 8, 16, 30, 30, 30, 30), strict=True):
        assert most / 2 <= pause <= most
    backoff.restart()
    assert backoff.pause() == 0.0
    assert 0.5 <= backoff.pause() <= 1.0


def test_a_token_bucket_allows_a_burst_and_then_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pace.time, "monotonic", lambda: now)
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take() for _ in range(5)] == [True] * 3 + [False] * 2
    now += 0.5
    assert [bucket.take() for _ in range(2)] == [True, False]
    now += 3600
    assert [bucket.take() for _ in range(5)] == [True] * 3 + [False] * 2
