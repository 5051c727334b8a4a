"""A keystroke every 50 ms beside a download: through one tunnel across one link, and as rows."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from bench import machine
from bench.figures import Bound, Figure, Series, percentile
from bench.links import ADSL, BURST, CLEAN, DEEP, FAR, LTE, POLICED, SHALLOW, SLOW, UMTS, WAN, WIFI, Link
from bench.run import Outcome, Row, Run
from bench.tunnels import Course, Tunnel

MB = 1_000_000
SECONDS = 22.0

_ALWAYS = ("ssh (bbr)", "ssh (cubic)")  # measured in each repetition
_ONCE = ("kcptun", "iroh", "aioquic", "WireGuard (bbr)", "WireGuard (cubic)")  # in the first one


@dataclass(frozen=True, slots=True)
class Typed:
    """What was measured.

    `down` and `up` are MB/s of the payload that arrived, `keys` the times of the keystrokes, there and
    back, in ms. `silence` is the longest time without a byte of the download, in seconds. `near` and `far`
    are the CPU seconds of the two ends for each GB that either of them carried, and `acks` the packets of
    less than 200 bytes that entered the link each second, down and up.
    """

    down: float
    up: float
    keys: tuple[float, ...]
    silence: float
    near: float
    far: float
    acks: tuple[float, float]

    @property
    def p50(self) -> float:
        """Milliseconds that half of the keystrokes do not exceed."""
        return percentile(self.keys, 0.5)

    @property
    def p95(self) -> float:
        """The same for 95 percent."""
        return percentile(self.keys, 0.95)

    @property
    def worst(self) -> float:
        """The slowest keystroke, in ms."""
        return max(self.keys)

    def __str__(self) -> str:
        up = f" down, {self.up:.3g} up" if self.up else ""
        return (
            f"{self.down:.3g}{up} MB/s · {self.p50:.0f}/{self.p95:.0f}/{self.worst:.0f} ms · "
            f"longest gap {self.silence:.2f} s · {self.far:.1f}/{self.near:.1f} CPU s per GB"
        )


async def typed(
    across: Course,
    tunnel: Tunnel,
    seconds: float = SECONDS,
    down: int = 1,
    up: int = 0,
    *,
    trace_at: float = 0.0,
    patience: bool = False,
) -> Typed:
    """Type beside `down` downloads and `up` uploads for `seconds`; with `patience` see `Keys`.

    Traces of the link begin again, and have run for `trace_at` seconds when the downloads begin.
    """
    network = across.network
    network.begin_traces()
    await asyncio.sleep(trace_at)
    before, used = network.counts(), _used(tunnel)
    result: dict[str, Any] = await across.work(
        "typing", way=[tunnel.forward, None], seconds=seconds, down=down, up=up, patience=patience
    )
    after, near, far = network.counts(), *(now - then for now, then in zip(_used(tunnel), used, strict=True))
    got = [sum(result[way]) for way in ("down", "up")]
    gigabytes = max(sum(got), 1) / 1e9
    return Typed(
        down=got[0] / seconds / MB,
        up=got[1] / seconds / MB,
        keys=tuple(1000 * time for time in result["times"]),
        silence=result["silence"],
        near=near / gigabytes,
        far=far / gigabytes,
        acks=(
            (after.down["small"] - before.down["small"]) / seconds,
            (after.up["small"] - before.up["small"]) / seconds,
        ),
    )


def _used(tunnel: Tunnel) -> list[float]:
    """CPU seconds of the near and the far end so far."""
    return [machine.family_seconds(pid) for pid in tunnel.processes]


async def _beside_download(run: Run, link: Link, share: float, p95: float) -> Outcome:
    """`share` in percent of the link's rate and `p95` in ms are what is wanted of toxproxy."""
    measured = await _measured(run, link)
    figures = []
    for name, samples in measured.items():
        wanted = (Bound(share), Bound(p95, at_most=True)) if name == "toxproxy" else (None, None)
        if capacity := link.down.within(run.size(SECONDS)):
            shares = tuple(100 * one.down / capacity for one in samples)
            figures.append(Figure(f"{name}, download", "% of the link", shares, wanted[0]))
        figures.append(Figure(f"{name}, download", "MB/s", tuple(one.down for one in samples)))
        keys = tuple(one.p95 for one in samples)
        figures += [
            Figure(f"{name}, p50", "ms", tuple(one.p50 for one in samples)),
            Figure(f"{name}, p95", "ms", keys, wanted[1]),
            Figure(f"{name}, slowest", "ms", tuple(one.worst for one in samples)),
            Figure(f"{name}, longest without a byte", "s", tuple(one.silence for one in samples)),
            Figure(f"{name}, sender", "CPU s per GB", tuple(one.far for one in samples)),
            Figure(f"{name}, receiver", "CPU s per GB", tuple(one.near for one in samples)),
        ]
    return Outcome(figures, _dots(link.down.within(run.size(SECONDS)), measured))


async def _measured(run: Run, link: Link) -> dict[str, list[Typed]]:
    """All repetitions, by the name of the tunnel. Each tunnel has a network of its own."""
    measured: defaultdict[str, list[Typed]] = defaultdict(list)
    async for number in run.times():
        names = [name for name in (*_ALWAYS, *(_ONCE if number == 1 else ())) if name in run.rivals]
        for name in ("toxproxy", *names):
            async with run.tunnel(link, name, number) as (across, tunnel):
                if tunnel is not None:
                    measured[name].append(await typed(across, tunnel, run.size(SECONDS)))
    return dict(measured)


def _dots(capacity: float, measured: dict[str, list[Typed]]) -> list[Series]:
    """For each tunnel its share of the link's MB/s in percent, and its p95 in ms."""
    if not capacity:
        return []
    return [
        Series(
            name,
            ((100 * median(one.down for one in samples) / capacity, median(one.p95 for one in samples)),),
        )
        for name, samples in measured.items()
    ]


async def _both(run: Run) -> Outcome:
    figures: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    async for number in run.times():
        for name in ("toxproxy", *(name for name in _ALWAYS if name in run.rivals)):
            async with run.tunnel(ADSL, name, number) as (across, tunnel):
                if tunnel is None:
                    continue
                down = await typed(across, tunnel, run.size(SECONDS))
                up = await typed(across, tunnel, run.size(SECONDS), down=0, up=1)
                both = await typed(across, tunnel, run.size(SECONDS), up=1)
            for what, value, unit in (
                ("download, of one alone", both.down / down.down if down.down else 0, "×"),
                ("upload, of one alone", both.up / up.up if up.up else 0, "×"),
                ("download", both.down, "MB/s"),
                ("upload", both.up, "MB/s"),
                ("p95", both.p95, "ms"),
                ("small packets down", both.acks[0], "per second"),
                ("small packets up", both.acks[1], "per second"),
                ("small packets up beside a download alone", down.acks[1], "per second"),
            ):
                figures[f"{name}, {what}", unit].append(value)
    return Outcome([Figure(what, unit, tuple(samples)) for (what, unit), samples in figures.items()])


_WANTED = (
    (CLEAN, 0, 30),
    (FAR, 0, 90),
    (WAN, 88, 80),
    (DEEP, 88, 80),
    (SLOW, 88, 430),
    (POLICED, 86, 150),
    (SHALLOW, 72, 120),
    (WIFI, 80, 130),
    (BURST, 86, 115),
    (LTE, 80, 330),
    (UMTS, 80, 650),
    (ADSL, 85, 110),
)

ROWS = (
    *(
        Row(
            f"keys-{link.name}",
            f"a download of {SECONDS:g} s with a keystroke every 50 ms beside it",
            link,
            partial(_beside_download, link=link, share=share, p95=p95),
            1800,
        )
        for link, share, p95 in _WANTED
    ),
    Row("both", "an upload beside a download, with a keystroke every 50 ms", ADSL, _both, 1800),
)
