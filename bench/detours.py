"""Rows in which the link is not as it should be: cut for some seconds, or without UDP."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from functools import partial

from bench.figures import Bound, Figure
from bench.keystrokes import MB, SECONDS, typed
from bench.links import POLICED, WAN, Direction, Link
from bench.run import Outcome, Row, Run
from bench.tunnels import relayed, toxproxy

_RELAYED = Link.alike("relay", Direction(delay=25, rate=100, queue=600))
_BEFORE, _CUT, _AFTER = 8.0, 8.0, 16.0  # seconds


async def _cut(run: Run, link: Link) -> Outcome:
    samples: defaultdict[str, list[float]] = defaultdict(list)
    async for number in run.times():
        async with run.course(link, seed=number) as across, toxproxy(across) as ours:
            seconds = _BEFORE + _CUT + _AFTER
            way = [ours.forward, None]
            working = asyncio.create_task(across.work("progress", way=way, seconds=seconds))
            await asyncio.sleep(_BEFORE)
            across.network.cut()
            await asyncio.sleep(_CUT)
            across.network.mend()
            mended = time.monotonic()
            progress = (await working)["progress"]
            first = next((at for at, _ in progress if at > mended), mended + _AFTER)
            within = [got for at, got in progress if first <= at <= first + 1]
            samples["first"].append(first - mended)
            samples["rate"].append((within[-1] - within[0]) / MB if within else 0.0)
    return Outcome(
        [
            Figure("from the end of the cut to a byte", "s", tuple(samples["first"]), Bound(1, at_most=True)),
            Figure("in the second after that byte", "MB", tuple(samples["rate"])),
        ]
    )


async def _relay(run: Run) -> Outcome:
    samples: defaultdict[str, list[float]] = defaultdict(list)
    seconds = run.size(SECONDS)
    async for number in run.times():
        async with run.course(_RELAYED, seed=number) as across, relayed(across) as ours:
            alone = await typed(across, ours, seconds / 2, down=0)
            beside = await typed(across, ours, seconds)
            direct = [(across.network.far.address, across.port), None]
            plain = await across.work("download", way=direct, size=1 << 40, seconds=seconds)
            samples["alone"].append(alone.p95)
            samples["beside"].append(beside.p95)
            samples["rate"].append(beside.down)
            samples["silence"].append(beside.silence)
            samples["plain"].append(plain["bytes"] / plain["seconds"] / MB)
    return Outcome(
        [
            Figure("download", "MB/s", tuple(samples["rate"])),
            Figure("longest without a byte", "s", tuple(samples["silence"])),
            Figure("p95 of a keystroke beside it", "ms", tuple(samples["beside"])),
            Figure("p95 of a keystroke alone", "ms", tuple(samples["alone"])),
            Figure("plain TCP (bbr) without a relay", "MB/s", tuple(samples["plain"])),
        ]
    )


ROWS = (
    *(
        Row(f"cut-{link.name}", f"a download through a cut of {_CUT:g} s", link, partial(_cut, link=link))
        for link in (WAN, POLICED)
    ),
    Row("relay", "a download without UDP, through a TCP relay at the far end", _RELAYED, _relay),
)
