"""What the congestion controller measures with, each by itself: delays, losses, rounds, pace, competition."""

from __future__ import annotations

import pytest

from toxproxy.recovery.competition import Competition
from toxproxy.recovery.delays import NOISE, Delays, Least
from toxproxy.recovery.losses import Losses
from toxproxy.recovery.pacing import SHORTEST_WAIT, Pacer
from toxproxy.recovery.rounds import SHORTEST, Round
from toxproxy.recovery.sent import Report, Sent

CLOCKS = 1000.0  # seconds by which the clocks of both sides differ


def report(there: float, back: float = 0.02) -> Report:
    return Report(there + back, there + CLOCKS, CLOCKS)


# Delays


def test_the_least_value_is_forgotten_after_its_time() -> None:
    least = Least()
    least.note(0, 1.0)
    least.note(5, 2.0)
    assert least.value == 1.0
    least.note(11, 3.0)
    assert least.value == 1.0  # of the span before
    least.note(22, 4.0)
    assert least.value == 3.0


def test_a_queue_is_what_goes_beyond_the_least_way_there() -> None:
    delays = Delays(0)
    delays.note(0, report(0.03))
    assert delays.base == pytest.approx(0.05)
    delays.begin_round()
    delays.note(1, report(0.13))
    delays.note(1.1, report(0.1))
    assert delays.queue() == pytest.approx(0.07 - NOISE)
    assert delays.queue(1) == pytest.approx(0.07 - NOISE)
    assert delays.empty_at == 0


def test_a_queue_on_the_way_back_is_none() -> None:
    delays = Delays(0)
    delays.note(0, report(0.03))
    delays.note(1, report(0.03, back=0.5))
    assert delays.queue() <= 0


def test_jitter_allows_a_longer_queue() -> None:
    delays = Delays(0)
    for step in range(20):
        for late in (0.0, 0.01, 0.02, 0.03):
            delays.note(step, report(0.03 + late))
        delays.begin_round()
    assert 0.03 < delays.allowed < 0.05


def test_late_event_loops_are_no_jitter() -> None:
    """A fast flow would keep more bytes in the queue for them than a slow one: shares would stay uneven."""
    punctual, late = Delays(0), Delays(0)
    for step in range(20):
        for delay in (0.0, 0.001, 0.003, 0.004):
            punctual.note(step, report(0.03))
            late.note(step, report(0.03 + delay))
        punctual.begin_round()
        late.begin_round()
    assert late.share_allowed(0.5) == punctual.share_allowed(0.5)


def test_a_path_that_became_longer_has_another_base() -> None:
    delays = Delays(0)
    delays.note(0, report(0.03))
    delays.begin_round()
    delays.note(1, report(0.13, back=0.12))
    delays.forget_base()
    assert delays.base == pytest.approx(0.25)
    assert delays.queue() <= 0


def test_a_clock_that_jumps_begins_anew() -> None:
    delays = Delays(0)
    delays.note(0, report(0.03))
    delays.begin_round()
    delays.note(1, Report(0.05, 0.03 + CLOCKS + 60, CLOCKS + 60))
    assert delays.base == pytest.approx(0.05)
    assert delays.queue() <= 0


# Losses


def test_what_is_always_lost_is_chance_and_what_is_more_is_not() -> None:
    losses = Losses()
    assert losses.note(80, 20)
    for _ in range(40):
        losses.note(98, 2)
    assert losses.chance == pytest.approx(0.02)
    assert not losses.note(96, 4)
    assert losses.note(85, 15)
    assert not losses.note(1, 1)  # a single packet says nothing


def test_chance_has_an_end() -> None:
    losses = Losses()
    for _ in range(40):
        losses.note(70, 30)
    assert losses.chance == pytest.approx(0.06)
    assert losses.note(70, 30)


# Rounds


def test_a_round_ends_with_a_packet_that_left_in_it() -> None:
    round = Round(0)
    round.last_sent = 10
    round.begin(0, Sent(5, 0.0, 1000, None), Report(0.1, 0, 100.0))
    round.last_sent = 30
    assert not round.over(1, Sent(10, 0, 1000, None))
    assert round.over(1, Sent(11, 0.9, 1000, None))
    assert not round.over(SHORTEST / 2, Sent(11, 0, 1000, None))


@pytest.mark.parametrize(
    ("left", "arrived", "rate"),
    [pytest.param(0.5, 100.1, 20_000, id="left"), pytest.param(0.1, 101.0, 10_000, id="arrived")],
)
def test_a_rate_is_not_faster_than_packets_left_or_arrived(left: float, arrived: float, rate: float) -> None:
    round = Round(0)
    round.begin(0, Sent(1, 0.0, 1000, None), Report(0.1, 0, 100.0))
    round.size = 10_000
    round.end(Sent(2, left, 1000, None), Report(0.1, 0, arrived))
    assert round.rate == pytest.approx(rate)


def test_a_round_whose_begin_is_not_known_has_no_rate() -> None:
    round = Round(0)
    round.size = 10_000
    round.end(Sent(2, 0.1, 1000, None), Report(0.1, 0, 101.0))
    assert round.rate == 0


# Pace


def test_packets_leave_with_the_rate_after_a_burst() -> None:
    pacer, sent, now = Pacer(0, 1e6), 0, 0.0
    while now < 1:
        if pacer.allows(now):
            pacer.tokens -= 1000
            sent += 1000
        else:
            assert pacer.wait(now) >= SHORTEST_WAIT
            now += pacer.wait(now)
    assert 1e6 <= sent <= 1.05e6


def test_an_event_loop_that_is_late_loses_no_rate() -> None:
    pacer, sent, now = Pacer(0, 5e6), 0, 0.0
    while now < 2:
        now += 0.02 if int(now * 10) % 2 else 0.001
        while pacer.allows(now):
            pacer.tokens -= 1410
            sent += 1410
    assert 0.6 * 2 * 5e6 <= sent <= 1.02 * 2 * 5e6


# Competition


def test_a_queue_that_stays_is_of_others() -> None:
    others = Competition(1e9)
    assert not others.deep(10, 0.3, 0.05, 0.01, quiet_at=9)
    assert others.deep(12, 0.3, 0.05, 0.01, quiet_at=9)
    assert not others.deep(13, 0.01, 0.05, 0.01, quiet_at=9)


def test_a_window_beside_others_grows_until_a_loss_or_a_long_queue() -> None:
    others = Competition(1e9)
    others.deep(12, 0.3, 0.05, 0.01, quiet_at=9)
    others.begin(12, 1e5, 0.3)
    others.round(0.4, 0.35, lost=False, idle=False)
    assert others.window == pytest.approx(2e5)
    others.round(0.4, 0.5, lost=False, idle=False)
    assert 1.8e5 < others.window < 2e5
    before = others.window
    others.round(1.0, 0.35, lost=False, idle=False)
    assert others.window == pytest.approx(1.2 * before)
    others.round(1.0, 0.35, lost=True, idle=False)
    assert others.window == pytest.approx(0.96 * before)
    assert others.until == 22


def test_the_window_has_an_end() -> None:
    others = Competition(1e9)
    others.begin(0, 1e5, 1.0)
    for _ in range(5000):
        others.round(1e6, 0.0, lost=False, idle=False)
    assert others.window == 1e9
