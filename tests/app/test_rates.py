"""Rates between two moments at which somebody asked."""

from __future__ import annotations

from toxproxy.app.rates import SPAN, Rates

A, B = b"a", b"b"


def test_the_first_question_has_no_rate() -> None:
    rates = Rates()
    assert not rates.ready(0.0, {A})
    assert rates.of(A, 0.0, (5, 5)) is None
    rates.note(0.0, {A: (5, 5)})
    assert rates.of(A, 0.1, (6, 6)) is None, "too soon to tell"


def test_a_rate_is_the_difference_to_the_oldest_sample_that_counts() -> None:
    rates = Rates()
    rates.note(0.0, {A: (0, 0)})
    rates.note(2.0, {A: (1000, 10)})
    assert rates.ready(2.5, {A})
    assert rates.of(A, 2.5, (2500, 25)) == (1000.0, 10.0)
    assert rates.of(A, SPAN + 1.0, (4000, 50)) == (750.0, 10.0), "the first sample is too old by then"
    assert rates.of(A, 2 * SPAN + 3, (9000, 90)) is None


def test_a_peer_that_came_since_has_no_rate_yet() -> None:
    rates = Rates()
    rates.note(0.0, {A: (0, 0)})
    assert not rates.ready(1.0, {A, B})
    assert rates.of(B, 1.0, (100, 0)) is None
    assert rates.ready(1.0, set())


def test_samples_are_few_however_often_somebody_asks() -> None:
    rates = Rates()
    for number in range(100_000):
        rates.note(number / 1000, {A: (number, 0)})
    assert len(rates._samples) <= 64
    assert rates.of(A, 100.0, (100_000, 0)) == (1000.0, 0.0)
