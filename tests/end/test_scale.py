"""The measurement of many clients and servers, with few: all arrive, and each gets bytes from each."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench.figures import Bound, Figure
from bench.scale import line, started
from toxproxy.demo.network import HERE


async def test_two_clients_of_two_servers_download_from_both(tmp_path: Path) -> None:
    sizes = argparse.Namespace(clients=2, servers=2, processes=2)
    async with started(tmp_path, HERE, HERE, sizes) as scene:
        since = time.monotonic()
        orders = [{"texts": texts, "since": since, "longest": 60} for texts in scene.texts]
        arrivals = await scene.ask(orders)
        assert all(0 < each["seconds"][0] < 60 for each in arrivals)
        got, _ = await scene.download(2)
        assert len(got) == 4
        assert all(got)
        alone, _ = await scene.download(1, alone=True)
        assert len(alone) == 2
        assert all(alone)


def test_a_bound_that_is_missed_is_shown() -> None:
    assert line(Figure("idle", "%", (3.0,), Bound(2, at_most=True))).endswith("≤ 2: NOT REACHED")
    assert line(Figure("idle", "%", (1.0,), Bound(2, at_most=True))).endswith("≤ 2: reached")
