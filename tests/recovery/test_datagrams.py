"""Datagrams beside streams, over a path of 50 ms that loses 2 % of the packets."""

from __future__ import annotations

import pytest

from tests.recovery.path import KB, MBIT, Way, both
from tests.recovery.whole import Side, percentile
from tests.recovery.world import World
from toxproxy.address import Target, UdpTarget

DELAY = 0.025  # seconds, of one direction
LINK = both(Way(delay=DELAY, rate=20 * MBIT, queue=200 * KB, loss=0.02))
SETTLED = 2.0  # seconds


def run(
    seconds: float, *, download: bool = False, keys: bool = False, rate: float = 0.0, size: int = 160
) -> tuple[Side, Side]:
    near = Side(client=True, download=download, keys=keys, rate=rate)
    far = Side(client=False, rate=rate, size=size)
    world = World(LINK, seed=1)
    world.join(near, far)
    world.run(seconds)
    return near, far


def test_a_call_beside_a_download_is_hardly_later_and_loses_what_the_path_loses() -> None:
    near, far = run(16.0, download=True, rate=100)
    lost = 1 - len(near.delays) / far.sent_datagrams
    assert lost <= 0.035  # of 1,500, by chance; the path loses 0.02
    assert not far.mux.scheduler.datagrams.dropped
    assert percentile(near.delays, 0.99, SETTLED) <= DELAY + 0.025
    assert near.received > 0.7 * 16 * 20 * MBIT


def test_a_call_does_not_slow_keystrokes() -> None:
    without, _ = run(12.0, download=True, keys=True)
    beside, _ = run(12.0, download=True, keys=True, rate=100)
    slower = percentile(beside.echoes, 0.95, SETTLED) - percentile(without.echoes, 0.95, SETTLED)
    assert slower <= 0.020


def test_a_flood_of_datagrams_leaves_half_to_a_download_and_keystrokes_go_on() -> None:
    near, far = run(8.0, download=True, keys=True, rate=4000, size=1200)
    assert near.received > 0.3 * 8 * 20 * MBIT
    assert len(near.delays) * 1200 > 0.3 * 8 * 20 * MBIT
    assert far.mux.scheduler.datagrams.dropped > 1000
    assert percentile(near.echoes, 0.95, SETTLED) <= 0.050 + 0.040
    assert len(near.echoes) > 0.95 * 7 / 0.05


def test_a_flow_goes_on_on_the_next_link_and_what_was_late_by_then_is_dropped() -> None:
    near, far = Side(client=True, rate=100), Side(client=False, rate=100)
    world = World(LINK, seed=2)
    hosts = world.join(near, far)
    world.run(5.0)
    for side in (near, far):
        side.recovery.link_down(5.0)
    world.run(9.0)
    before = len(near.delays)
    for side, host in zip((near, far), hosts, strict=True):
        side.recovery.link_up(9.0)
        host.wake = 9.0
    world.run(12.0)
    assert len(near.delays) - before > 250
    assert max(delay for _, delay in near.delays) < 0.5
    assert far.mux.scheduler.datagrams.dropped > 300


def test_a_probe_repeats_what_matters_and_not_the_datagrams_before_it() -> None:
    near, far = Side(client=True), Side(client=False)
    world = World(LINK, seed=4)
    hosts = world.join(near, far)
    world.run(2.0)
    hosts[0].wake = 2.0
    flow, stream = near.mux.open(UdpTarget("h", 9)), near.mux.open(Target("h", 10))
    world.run(4.0)
    near.mux.send(flow, b"a datagram", 4.0)
    assert b"a datagram" in (near.recovery.next_packet(4.0) or b"")
    near.mux.write(stream, b"a keystroke")
    assert b"a keystroke" in (near.recovery.next_packet(4.001) or b"")
    probe = near.recovery.next_packet(near.recovery.due) or b""
    assert b"a keystroke" in probe
    assert b"a datagram" not in probe


@pytest.mark.parametrize("rate", [10, 400])
def test_datagrams_alone_lose_no_more_than_the_path(rate: int) -> None:
    near, far = run(10.0, rate=rate)
    assert not far.mux.scheduler.datagrams.dropped
    assert len(near.delays) > 0.9 * far.sent_datagrams
