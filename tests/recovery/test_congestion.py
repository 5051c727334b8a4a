"""Congestion control over paths in virtual time: rate, queue, and changes of the path."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import median

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.recovery import path
from tests.recovery.download import Download, alone
from tests.recovery.path import KB, MBIT, PACKET, USE, Path, Way, both
from tests.recovery.relay import RelayDirection
from tests.recovery.tunnel import Tunnel
from tests.recovery.world import Host, World
from toxproxy.recovery.congestion import LEAST_WINDOW, MOST_WINDOW, Controller, State
from toxproxy.recovery.sent import Report, Sent

# A long run is many packets over the same lines. Tracing them would take most of its time.
LONG = pytest.mark.usefixtures("untraced")
SEEDS = pytest.mark.parametrize("seed", [1, 2])
MB = 1e6


# One download and a keystroke. What fits: a link's rate in bytes of use.


@LONG
@SEEDS
@pytest.mark.parametrize(
    ("on", "until", "rate", "keystroke"),
    [
        pytest.param(path.POLICED, 12, 2.2, 0.14, id="policed"),
        pytest.param(path.SHALLOW, 8, 10.0, 0.11, id="shallow"),
        pytest.param(path.WIFI, 10, 5.5, 0.12, id="wifi"),
        pytest.param(path.BURST, 10, 5.2, 0.13, id="burst"),
        pytest.param(path.WAN, 8, 11.3, 0.07, id="wan"),
        pytest.param(path.DEEP, 12, 2.25, 0.08, id="deep"),
        pytest.param(path.SLOW, 22, 0.88, 0.43, id="slow"),
        pytest.param(path.ADSL, 12, 1.75, 0.06, id="adsl"),
        pytest.param(path.RELAY, 12, 3.3, 0.12, id="relay"),
    ],
)
def test_a_path_is_filled_and_a_keystroke_does_not_wait(
    on: Path, until: float, rate: float, keystroke: float, seed: int
) -> None:
    download = alone(on, until, seed)
    assert download.host.goodput(2, until) >= rate * MB
    assert download.near.percentile(0.95, 2) <= keystroke
    assert download.host.silence(1, until) < 0.5


@SEEDS
def test_what_startup_loses_and_leaves_in_the_queue_is_over_soon(seed: int) -> None:
    download = alone(path.SLOW, 22, seed)
    assert not download.controller.lossy
    assert download.host.goodput(0.1, 22) >= 0.895 * MB
    assert download.near.percentile(0.95) <= 0.43


@pytest.mark.parametrize(("way", "until", "rate"), [
    (path.SLOW.down, 1.2, 0.5), (Way(delay=0.1, rate=50 * MBIT, queue=600 * KB), 1.0, 1.6),
])  # fmt: skip
def test_a_long_path_begins_as_fast_as_a_short_one(way: Way, until: float, rate: float) -> None:
    assert alone(both(way), until).host.goodput(0, until) >= rate * MB


@SEEDS
@pytest.mark.parametrize(("pause", "more", "rate"), [(0.03, 0.002, 2.5), (0.04, 0.015, 3.0)])
def test_a_relay_that_drops_only_while_the_rate_grows_is_no_lossy_path(
    pause: float, more: float, rate: float, seed: int
) -> None:
    way = Way(delay=0.025, rate=100 * MBIT)
    world = World(both(way), seed)
    world.down, world.up = (RelayDirection(way, pause, more, each) for each in (seed, seed + 1000))
    download = Download(world)
    world.run(14)
    assert not download.controller.lossy
    assert download.host.goodput(10, 14) >= rate * MB


@SEEDS
def test_startup_goes_on_if_a_relay_ended_it_too_soon(seed: int) -> None:
    """TCP of the relay starts slowly, too, and so there is a queue in it for a moment."""
    way = Way(delay=0.025, rate=100 * MBIT)
    world = World(both(way), seed)
    world.down, world.up = (RelayDirection(way, 0.03, 0.002, each) for each in (seed, seed + 1000))
    download = Download(world)
    world.run(6)
    assert download.host.goodput(3, 6) >= 5 * MB


@SEEDS
@pytest.mark.parametrize(
    ("make", "share", "keystroke"), [(path.lte, 0.85, 0.33), (path.umts, 0.85, 0.42)], ids=["lte", "umts"]
)
def test_a_mobile_link_is_followed(make: type, share: float, keystroke: float, seed: int) -> None:
    on = make(seed)
    download = alone(on, 22)
    capacity = sum(2 <= when < 22 for when in on.down.trace) * 1500 / 20 * USE
    assert download.host.goodput(2, 22) >= share * capacity
    assert download.near.percentile(0.95, 2) <= keystroke


@pytest.mark.parametrize(
    ("on", "rate"),
    [(path.POLICED, 2.15), (path.SHALLOW, 8.5), (path.WIFI, 5.5), (path.WAN, 10.5)],
    ids=["policed", "shallow", "wifi", "wan"],
)
def test_an_event_loop_that_is_late_now_and_then(on: Path, rate: float) -> None:
    download = alone(on, 10, late=0.008)
    assert download.host.goodput(2, 10) >= rate * MB


def test_a_policer_drops_little_once_its_rate_is_found() -> None:
    later, whole = [], []
    for delay in (0.055, 0.058, 0.06, 0.062, 0.065):  # in a single run it depends on chance
        world = World(both(replace(path.POLICED.down, delay=delay)))
        download = Download(world)
        world.run(3)
        sent, dropped = world.down.sent_bytes, world.down.dropped_bytes
        world.run(20)
        later.append((world.down.dropped_bytes - dropped) / (world.down.sent_bytes - sent))
        whole.append(max(world.down.dropped_bytes / world.down.sent_bytes, download.lost))
    assert median(later) <= 0.025
    assert max(whole) <= 0.06


def test_a_path_without_a_queue_is_not_drained() -> None:
    world = World(path.WAN)
    download = Download(world)
    states = []
    for step in range(100, 400):
        world.run(step / 100)
        states.append(download.controller.state)
    assert states.count(State.UP) > 15
    assert states.count(State.DOWN) < 0.05 * len(states)


def test_late_packets_are_not_taken_for_congestion() -> None:
    way = Way(delay=0.03, rate=50 * MBIT, queue=500 * KB, reorder=0.02)
    download = alone(both(way), 8)
    assert download.host.goodput(2, 8) >= 0.93 * 50 * MBIT * USE


def test_both_directions_of_a_home_line() -> None:
    world = World(path.ADSL)
    near, far = Tunnel(math.inf, keys_from=0.2), Tunnel(math.inf)
    hosts = world.join(near, far)
    world.run(15)
    assert hosts[1].goodput(2, 15) >= 0.8 * 1 * MBIT * USE
    assert hosts[0].goodput(2, 15) >= 0.8 * 16 * MBIT * USE
    assert near.percentile(0.95, 2) <= 0.2


# The path changes


def changing(before: Path, at: float, after: Path, until: float) -> Download:
    world = World(before, down=[(at, after.down)], up=[(at, after.up)])
    download = Download(world)
    world.run(until)
    return download


def with_rate(rate: float) -> Path:
    return both(Way(delay=0.025, rate=rate, queue=600 * KB))


def test_ten_times_the_rate_is_found() -> None:
    download = changing(with_rate(10 * MBIT), 5, with_rate(100 * MBIT), 9)
    assert download.host.goodput(7, 9) >= 0.9 * 100 * MBIT * USE


def test_a_tenth_of_the_rate_leaves_no_queue() -> None:
    download = changing(with_rate(100 * MBIT), 5, with_rate(10 * MBIT), 12)
    assert download.host.goodput(7, 12) >= 0.85 * 10 * MBIT * USE
    assert download.near.percentile(0.95, 7) <= 0.11


@pytest.mark.parametrize(("rate", "share"), [(20 * MBIT, 0.55), (50 * MBIT, 0.44)], ids=["20", "50"])
def test_a_slump_is_over_soon(rate: float, share: float) -> None:
    """A tenth of the rate for some seconds, then all of it again: what comes in the 1.5 s after.

    On average, since that depends on the moment of the slump.
    """
    usual = Way(delay=0.04, rate=rate, queue=300 * KB)
    shares = []
    for slump in (4.0, 4.4, 4.8, 5.2, 5.6):
        back = slump + 2.3
        world = World(both(usual), down=[(slump, replace(usual, rate=rate / 10)), (back, usual)])
        download = Download(world)
        world.run(back + 1.7)
        shares.append(download.host.goodput(back, back + 1.5) / (rate * USE))
    assert sum(shares) / 5 >= share


@pytest.mark.parametrize(("before", "after"), [(0.01, 0.1), (0.1, 0.01)], ids=["longer", "shorter"])
def test_another_delay(before: float, after: float) -> None:
    way = Way(delay=before, rate=20 * MBIT, queue=600 * KB, loss=0.002)
    download = changing(both(way), 5, both(replace(way, delay=after)), 25)
    assert download.host.goodput(7, 10) >= 0.6 * 20 * MBIT * USE
    assert download.host.goodput(12, 25) >= 0.75 * 20 * MBIT * USE
    assert download.near.percentile(0.95, 18) <= 2 * after + 0.1


@pytest.mark.parametrize("on", [path.WAN, path.POLICED], ids=["wan", "policed"])
def test_after_a_cut_it_goes_on_within_a_second(on: Path) -> None:
    world = World(on)
    download = Download(world)
    world.cut(4, 12)
    world.run(15)
    bars = download.host.bars
    assert bars[119] - bars[45] == 0
    assert bars[130] > bars[119]
    rate = (on.down.rate or on.down.police[0]) * USE
    assert download.host.goodput(13.5, 15) >= 0.8 * rate


# The application pauses


def test_a_pause_does_not_lower_the_rate_and_what_follows_is_paced() -> None:
    world = World(path.WAN)
    download = Download(world)
    world.run(3)
    download.far.load.to_send = 0
    world.run(6)
    before = download.far.sent_bytes
    download.far.load.to_send = math.inf
    world.run(6.1)
    assert download.far.sent_bytes - before <= 1.4 * 0.1 * path.WAN.down.rate
    world.run(7)
    assert download.host.goodput(6.3, 7) >= 0.85 * path.WAN.down.rate * USE


# Any path

PATHS = st.builds(
    Way,
    delay=st.floats(-3, -0.8).map(lambda exponent: 10**exponent),
    jitter=st.just(0.0) | st.floats(0, 0.03),
    reorder=st.just(0.0) | st.floats(0, 0.02),
    loss=st.just(0.0) | st.floats(0, 0.08),
    burst=st.just((0.0, 0.0)) | st.just((0.001, 0.08)),
    rate=st.floats(-1, 1.5).map(lambda exponent: 10**exponent * MBIT),
    queue=st.floats(20e3, 1e6),
    police=st.just((0.0, 0.0))
    | st.tuples(st.floats(1, 20).map(lambda mbit: mbit * MBIT), st.floats(20e3, 100e3)),
)


class Watch:
    """Asserts what a controller promises, whenever a packet leaves or an acknowledgement comes."""

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel, self.controller = tunnel, tunnel.recovery.controller
        self._sent, self._feedback = self.controller.sent, self.controller.feedback
        self.controller.sent = self.sent  # type: ignore[method-assign]
        self.controller.feedback = self.feedback  # type: ignore[method-assign]

    def sent(self, packet: Sent, now: float, in_flight: int) -> None:
        self._sent(packet, now, in_flight)
        self._check(now, in_flight)

    def feedback(
        self, now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        self._feedback(now, acked, lost, report, in_flight)
        self._check(now, in_flight)

    def _check(self, now: float, in_flight: int) -> None:
        controller = self.controller
        assert LEAST_WINDOW <= controller.window <= MOST_WINDOW
        assert math.isfinite(controller.bandwidth)
        assert now <= controller.resumes(now, 0) < now + 2
        if controller.allows(now, in_flight):
            assert in_flight <= controller.window
        assert controller.resumes(now, MOST_WINDOW) == math.inf


@settings(max_examples=25)
@example(  # losses that come together, and last while few packets come
    way=Way(delay=0.002, rate=700e3, queue=100e3, burst=(0.001, 0.08)), seed=501, late=0.0
)
@given(way=PATHS, seed=st.integers(1, 1000), late=st.sampled_from([0.0, 0.008]))
def test_on_any_path_a_transfer_ends_without_long_silence(way: Way, seed: int, late: float) -> None:
    world = World(both(way), seed)
    rate = min(way.rate, way.police[0] or way.rate)
    amount = min(3e6, 6 * rate)
    near, far = Tunnel(0), Tunnel(amount)
    Watch(far)
    world.join(near, far, late=late)
    silence = max(3.0, 8 * (2 * way.delay + min(way.queue / way.rate, 3)))
    at, before = 0.0, -1
    while near.received < amount:
        assert near.received > before
        before = near.received
        at += silence
        world.run(at)
        assert at < 60 * silence


# Any measurements

MOMENTS = st.tuples(
    st.sampled_from([0.0, 0.0, 0.001, 0.01, 0.05, 1.0, 100.0]),  # seconds later
    st.integers(0, 40),  # packets sent
    st.floats(0, 1),  # the share of those in flight that are acknowledged …
    st.floats(0, 1),  # … and that are lost
    st.none() | st.tuples(st.floats(1e-4, 10), st.floats(-100, 100)),  # a round trip, a one-way delay
    st.booleans(),  # the application has more
)


@given(st.lists(MOMENTS, max_size=150))
def test_any_sequence_of_measurements_leaves_a_window_and_a_pace(
    moments: list[tuple[float, int, float, float, tuple[float, float] | None, bool]],
) -> None:
    now, number, control = 0.0, 0, Controller(0.0)
    flight: list[Sent] = []
    for later, packets, acked, lost, trip, more in moments:
        now += later
        for _ in range(packets):
            number += 1
            flight.append(Sent(number, now, PACKET, None))
            control.sent(flight[-1], now, PACKET * len(flight))
        arrived, flight = flight[: int(acked * len(flight))], flight[int(acked * len(flight)) :]
        gone, flight = flight[: int(lost * len(flight))], flight[int(lost * len(flight)) :]
        report = Report(trip[0], trip[1], now + trip[1]) if trip and arrived else None
        if arrived or gone:
            control.feedback(now, arrived, gone, report, PACKET * len(flight))
        if not more:
            control.exhausted(PACKET * len(flight))
        assert LEAST_WINDOW <= control.window <= MOST_WINDOW
        assert math.isfinite(control.bandwidth)
        assert now <= control.resumes(now, 0) < math.inf
        assert control.allows(now, MOST_WINDOW) is False


def test_a_clock_that_stood_still_is_no_queue() -> None:
    """A laptop slept, and its clock with it."""
    world = World(path.DEEP)
    download = Download(world)
    world.run(4)
    controller = download.controller
    feedback = controller.feedback

    def later(now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int) -> None:
        if report is not None:
            report = report._replace(one_way=report.one_way + 60, arrived=report.arrived + 60)
        feedback(now, acked, lost, report, in_flight)

    controller.feedback = later  # type: ignore[method-assign]
    world.run(7)
    assert download.host.goodput(5, 7) >= 0.9 * 20 * MBIT * USE
    assert download.near.percentile(0.95, 5) <= 0.09


def test_startup_ends_though_a_slow_source_never_fills_the_window() -> None:
    world = World(path.WAN)
    near, far = Tunnel(0, 0.0, 0.2), Tunnel(0)
    host: Host = world.join(near, far)[0]
    for step in range(1, 401):
        far.load.to_send += 0.01 * 2.5 * MB
        world.run(step / 100)
    assert far.recovery.controller.state is not State.STARTUP
    far.load.to_send = math.inf
    world.run(6)
    assert host.goodput(5, 6) >= 0.8 * path.WAN.down.rate * USE


def test_a_round_that_the_application_did_not_fill_says_little() -> None:
    world = World(path.WAN)
    near, far = Tunnel(0, 0.0, 0.2), Tunnel(0)
    host: Host = world.join(near, far)[0]
    world.run(4)  # keystrokes only
    far.load.to_send = math.inf
    world.run(5.5)
    assert host.goodput(5, 5.5) >= 0.8 * path.WAN.down.rate * USE
