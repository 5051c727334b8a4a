"""Congestion control beside others on the path, in virtual time: the shares of each."""

from __future__ import annotations

import math
from statistics import median

import pytest

from tests.recovery import path
from tests.recovery.download import Download
from tests.recovery.path import MBIT, USE, Path
from tests.recovery.tcp import Bbr, Bulk, Cubic, Governor
from tests.recovery.world import World

# Many packets take the same lines. Tracing them would take most of the time.
pytestmark = pytest.mark.usefixtures("untraced")


def shares(on: Path, until: float, second: float = 3.0, seed: int = 1) -> tuple[list[Download], World]:
    world = World(on, seed)
    downloads = [Download(world), Download(world, begin=second)]
    world.run(until)
    return downloads, world


@pytest.mark.parametrize(
    ("on", "second", "until", "most", "queue"),
    [
        pytest.param(path.DEEP, 3.0, 25, 2.0, 0.07, id="deep"),
        pytest.param(path.DEEP, 0.3, 22, 1.5, 0.07, id="deep, at once"),
        pytest.param(path.WAN, 3.0, 14, 2.6, 0.07, id="wan"),
        pytest.param(path.POLICED, 5.0, 45, 5.0, 0.07, id="policed, later"),
        pytest.param(path.RELAY, 3.0, 25, 2.0, 0.1, id="relay"),
    ],
)
def test_two_downloads_share(on: Path, second: float, until: float, most: float, queue: float) -> None:
    downloads, _ = shares(on, until, second)
    begin = math.ceil(second) + 1
    rates = [each.host.goodput(begin, until) for each in downloads]
    assert max(rates) <= most * min(rates)
    assert max(each.near.percentile(0.95, begin) for each in downloads) <= on.round_trip + queue


def test_two_downloads_share_a_policer() -> None:
    """Usually: what happens depends on the moment at which the second one begins."""
    ratios = []
    for second in (2.0, 3.0, 4.4, 5.0, 6.2):
        downloads, _ = shares(path.POLICED, second + 20, second)
        rates = [each.host.goodput(second, second + 20) for each in downloads]
        ratios.append(max(rates) / min(rates))
    assert median(ratios) <= 3


@pytest.mark.parametrize("second", [0.6, 1.7, 2.9, 4.1])
def test_two_downloads_do_not_take_each_other_for_a_tcp(second: float) -> None:
    downloads, _ = shares(path.DEEP, 16, second, seed=3)
    assert max(each.near.percentile(0.95, second + 1) for each in downloads) <= 0.15


@pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "theirs first"])
@pytest.mark.parametrize(("make", "least"), [(Cubic, 0.15), (Bbr, 0.25)], ids=["cubic", "bbr"])
def test_beside_a_tcp_both_get_a_share(make: type[Governor], least: float, ours_first: bool) -> None:
    """On average, since what happens depends on the moment at which the second one begins."""
    rates: list[list[float]] = [[], []]
    for second in (2.0, 4.2, 7.1):
        world = World(path.DEEP)
        download = Download(world, begin=0.0 if ours_first else second)
        begin = second if ours_first else 0.0
        other, _ = world.join(Bulk(), Bulk(math.inf, make(), begin), begin)
        world.run(40)
        for each, host in zip(rates, (download.host, other), strict=True):
            each.append(host.goodput(10, 40) / (20 * MBIT * USE))
    assert sum(rates[0]) / 3 >= least
    assert sum(rates[1]) / 3 >= 0.25
