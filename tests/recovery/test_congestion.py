"""Congestion control over paths in virtual time: its throughput, its fairness, its adaptation."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.link.path import FRAME, EnetFlow, Flow, Network, Path, TcpFlow
from toxproxy.link.congestion import INITIAL_WINDOW, LEAST_WINDOW, MOST_WINDOW, Controller, ControlPhase

MBIT = 1e6 / 8
WAN = Path(100 * MBIT, 0.025, 600e3, 0.01)
SLOW = Path(8 * MBIT, 0.15, 200e3, 0.02)
FAR = Path()
DEEP = Path(20 * MBIT, 0.025, 2.5e6)
HOME = Path(20 * MBIT, 0.025, 125e3)  # the queue holds one round trip, as in a good router
SEEDS = pytest.mark.parametrize("seed", [1, 2])


def alone(path: Path, until: float, seed: int = 1, turn: float = 0.001) -> tuple[Network, EnetFlow]:
    flow = EnetFlow()
    network = Network(path, flow, seed=seed, turn=turn)
    network.run(until)
    return network, flow


def changing(before: Path, after: Path, until: float, seed: int = 1) -> tuple[Network, EnetFlow]:
    """One flow on a path that changes after 5 seconds."""
    flow = EnetFlow()
    network = Network(before, flow, seed=seed)
    network.change(5.0, after)
    network.run(until)
    return network, flow


def share(flow: Flow, begin: float, end: float, path: Path) -> float:
    return flow.goodput(begin, end) / path.achievable


# One flow


@SEEDS
def test_a_lossy_path_is_filled(seed: int) -> None:
    network, flow = alone(WAN, 6, seed)
    assert share(flow, 1.1, 6, WAN) >= 0.95
    assert network.queue_delay(1.1, 6, 0.95) < 0.025


@SEEDS
def test_a_slow_and_lossy_path_is_filled(seed: int) -> None:
    _, flow = alone(SLOW, 23, seed)
    assert share(flow, 3.3, 23, SLOW) >= 0.9


@SEEDS
def test_a_tiny_queue_neither_limits_the_rate_nor_drops_much(seed: int) -> None:
    path = replace(WAN, queue=64e3)
    _, flow = alone(path, 6, seed)
    assert share(flow, 1.1, 6, path) >= 0.8
    assert flow.resent < flow.sent_packets / 4


def test_a_path_without_a_rate_is_used_up_to_the_largest_window() -> None:
    _, flow = alone(FAR, 1.1)
    assert flow.control.window == MOST_WINDOW
    assert flow.goodput(0.9, 1.05) >= 50e6


def test_a_deep_queue_stays_short_while_the_path_is_full() -> None:
    network, flow = alone(DEEP, 20)
    assert share(flow, 1, 20, DEEP) >= 0.95
    assert network.queue_delay(1, 20, 0.95) < 0.025


@SEEDS
def test_the_rate_is_found_within_a_second(seed: int) -> None:
    _, flow = alone(WAN, 1, seed)
    assert share(flow, 0.75, 0.85, WAN) >= 0.8


def test_a_path_within_one_machine_is_used() -> None:
    path = Path(60e6, 0.0001, 4e6)
    _, flow = alone(path, 1, turn=0.0002)
    assert share(flow, 0.3, 1, path) >= 0.9


@pytest.mark.parametrize("jitter", [0.01, 0.02, 0.04])
def test_random_jitter_does_not_starve_the_flow(jitter: float) -> None:
    path = replace(WAN, jitter=jitter)
    _, flow = alone(path, 4)
    assert share(flow, 1.5, 4, path) >= 0.85


# Several flows


@SEEDS
@pytest.mark.parametrize(
    "path", [replace(HOME, loss=0.01), replace(DEEP, jitter=0.002)], ids=["home", "deep"]
)
def test_another_flow_gets_its_share(path: Path, seed: int) -> None:
    first, second = EnetFlow(), EnetFlow()
    network = Network(path, first, seed=seed)
    network.at(3, lambda: network.join(second))
    network.run(23)
    for begin in (11, 17):
        shares = [share(flow, begin, begin + 6, path) for flow in (first, second)]
        assert 0.3 <= min(shares) <= max(shares) <= 0.7
    assert network.queue_delay(11, 23, 0.95) < 0.1


@pytest.mark.parametrize("first", [EnetFlow, TcpFlow])
def test_a_flow_and_tcp_beside_it_both_get_a_share(first: type[Flow]) -> None:
    flows = [EnetFlow(), TcpFlow()]
    flows.sort(key=lambda flow: type(flow) is not first)
    network = Network(HOME, flows[0])
    network.at(3, lambda: network.join(flows[1]))
    network.run(23)
    assert min(share(flow, 8, 23, HOME) for flow in flows) >= 0.1


# The path changes


def test_ten_times_the_rate_is_found() -> None:
    _, flow = changing(replace(WAN, rate=10 * MBIT), WAN, 10)
    assert share(flow, 8, 10, WAN) >= 0.9


@pytest.mark.parametrize("queue", [600e3, 2.5e6])
def test_a_tenth_of_the_rate_does_not_leave_a_queue(queue: float) -> None:
    after = replace(WAN, rate=10 * MBIT, queue=queue)
    network, flow = changing(replace(WAN, queue=queue), after, 14)
    assert network.queue_delay(10, 14, 1.0) < 0.1
    assert share(flow, 10, 14, after) >= 0.8


@SEEDS
def test_a_path_that_becomes_longer_is_filled_again(seed: int) -> None:
    before = Path(20 * MBIT, 0.01, 600e3, 0.005)
    after = replace(before, delay=0.1)
    _, flow = changing(before, after, 12, seed)
    assert share(flow, 9, 12, after) >= 0.7
    assert flow.control.base == pytest.approx(after.round_trip, abs=0.01)


def test_a_path_that_becomes_shorter_does_not_leave_a_queue() -> None:
    before = Path(20 * MBIT, 0.1, 600e3, 0.005)
    after = replace(before, delay=0.01)
    network, flow = changing(before, after, 16)
    assert network.queue_delay(13, 16, 0.95) < 0.04
    assert share(flow, 13, 16, after) >= 0.9


def test_after_three_seconds_of_silence_it_goes_on() -> None:
    flow = EnetFlow()
    network = Network(WAN, flow)
    network.change(3, replace(WAN, loss=1.0))
    network.change(6, WAN)
    network.run(9)
    assert flow.goodput(4, 6) == 0
    assert share(flow, 8.5, 9, WAN) >= 0.8


# The application pauses


@pytest.mark.parametrize(("interval", "length"), [(0.1, 100), (0.02, 2500)], ids=["keystrokes", "1 Mbit/s"])
def test_a_transfer_after_small_messages_starts_as_fast_as_a_first_one(interval: float, length: int) -> None:
    _, fresh = alone(WAN, 1.1)
    flow = EnetFlow(0)
    network = Network(WAN, flow)
    for number in range(round(8 / interval)):
        network.at(0.2 + number * interval, lambda: flow.write(length))
    network.at(9, lambda: flow.write(math.inf))
    network.run(10)
    assert (
        flow.progress[9999] - flow.progress[8999] >= 0.9 * fresh.progress[1054]
    )  # in the first second of each


def test_a_pause_does_not_lower_the_measured_rate() -> None:
    flow = EnetFlow()
    network = Network(WAN, flow)
    network.at(3, flow.stop)
    network.at(10, lambda: flow.write(math.inf))
    network.run(10.5)
    assert share(flow, 10.06, 10.16, WAN) >= 0.8


def test_after_a_pause_packets_are_paced() -> None:
    path = replace(WAN, loss=0)
    flow = EnetFlow()
    network = Network(path, flow)
    network.at(3, flow.stop)
    network.at(5, lambda: flow.write(math.inf))
    network.run(5.1)
    pace = 1.25 * 1.03 * path.rate  # the measured rate may be slightly too high
    burst = 0.005 * pace
    assert flow.sent[5000] <= burst + FRAME
    assert max(sum(flow.sent[turn : turn + 5]) for turn in range(5000, 5095)) <= burst + 0.005 * pace + FRAME


# Any path


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    round_trip=st.floats(-3, -0.3).map(lambda exponent: 10**exponent),
    mbit=st.floats(-1, 3).map(lambda exponent: 10**exponent),
    loss=st.floats(0, 0.05),
    queue=st.floats(0.2, 5),
)
def test_any_path_is_used_without_a_standing_queue(
    round_trip: float, mbit: float, loss: float, queue: float
) -> None:
    warm = max(1.0, 20 * round_trip, 8 * INITIAL_WINDOW / (mbit * MBIT))
    rate = min(mbit * MBIT, 40e6 / warm)  # bounds the cost of the simulation
    path = Path(rate, round_trip / 2, max(queue * rate * round_trip, 2 * LEAST_WINDOW), loss)
    network, flow = alone(path, 2 * warm, turn=min(0.001, round_trip / 4))
    assert share(flow, warm, 2 * warm, path) >= 0.6
    delays = network.delays[round(warm / network.turn) :]
    assert sum(delays) / len(delays) <= max(0.05, round_trip / 2, 2 * LEAST_WINDOW / rate)


# Any measurements

MOMENTS = st.tuples(
    st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.05, 1.0, 100.0]),  # seconds later
    st.integers(0, 100_000),  # bytes sent
    st.floats(0, 1),  # the share of undelivered bytes that is in flight
    st.none() | st.floats(0, 10),  # a round trip
    st.booleans(),  # the application has more
)


@settings(deadline=None)
@given(st.lists(MOMENTS, max_size=200))
def test_any_sequence_of_measurements_leaves_a_window_and_a_pace(
    moments: list[tuple[float, int, float, float | None, bool]],
) -> None:
    now, in_flight, control = 0.0, 0, Controller(0.0)
    for later, sent, kept, trip, more in moments:
        now += later
        control.sent(now, sent)
        in_flight = int((in_flight + sent) * kept)
        control.delivered(now, in_flight, trip)
        if not more:
            control.left_room(in_flight)
        assert LEAST_WINDOW <= control.window <= MOST_WINDOW
        assert control.allowance(now, in_flight) <= control.window
        assert 0 <= control.pause() < math.inf
        assert 0.03 <= control.spread < math.inf


def test_bytes_count_from_when_they_are_given_to_enet() -> None:
    control = Controller(0.0)
    control.sent(0.0, INITIAL_WINDOW)
    assert control.allowance(0.0, 0) <= 0


def test_without_round_trips_the_window_does_not_shrink() -> None:
    control, now = Controller(0.0), 0.0
    for _ in range(200):
        control.sent(now, 60_000)
        now += 0.05
        control.delivered(now, 0, None)
        assert control.window >= INITIAL_WINDOW
    assert control.phase is ControlPhase.STARTUP
    assert control.allowance(now, 0) >= INITIAL_WINDOW
