"""Rows with many streams: web pages, many downloads, and idle streams."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import replace
from typing import Any

from bench import machine
from bench.figures import Bound, Figure, Series, percentile, ratios
from bench.links import CLEAN, WAN, Link
from bench.program import python, running
from bench.run import Outcome, Row, Run
from bench.streams import MB, download
from bench.tunnels import LOOPBACK, Course, Tunnel, toxproxy

OBJECTS, OBJECT_BYTES, AT_ONCE = 300, 30_000, 32

_BULK, _REQUEST_BYTES, _REQUEST_EVERY = 40, 10_000, 0.05
_IDLE = 5000
_OPENINGS = 4000
_STALLED = 200  # downloads that nobody reads
_STALLING = 120.0  # seconds within which their windows must be full
_STILL, _STILL_SECONDS = 1e5, 2.0  # the link counts as still below this many bytes in this many seconds
_MEMORY = 110  # MB: a session's windows (67), 256 KiB of queued data for each stream, and a margin
_DELAYS = (5, 25, 50, 100, 150)


async def _fetch_page(run: Run, across: Course, tunnel: Tunnel) -> tuple[float, float]:
    """Seconds for all objects together, and the 95th percentile of the seconds for one."""
    count = run.size(OBJECTS)
    way = [tunnel.socks, [LOOPBACK, across.port]]
    result = await across.work("page", way=way, objects=count, size=OBJECT_BYTES, at_once=AT_ONCE)
    return result["seconds"], percentile(result["times"], 0.95)


async def _pages(run: Run, link: Link) -> dict[str, list[tuple[float, float]]]:
    """The results of `_fetch_page` through toxproxy and ssh, by the name of the tunnel."""
    pages: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    async with run.tunnels(link, "ssh (bbr)") as (across, tunnels):
        async for _ in run.times():
            for tunnel in tunnels:
                pages[tunnel.name].append(await _fetch_page(run, across, tunnel))
    return pages


async def _page(run: Run) -> Outcome:
    pages = await _pages(run, WAN)
    figures = []
    if "ssh (bbr)" in pages:
        for index, what, limit in ((0, "time of ssh (bbr)", 0.7), (1, "p95 of an object, of ssh (bbr)", 1.0)):
            ours, rival = ([pair[index] for pair in pages[name]] for name in ("toxproxy", "ssh (bbr)"))
            figures.append(Figure(what, "×", ratios(ours, rival), Bound(limit, at_most=True)))
    for name, pairs in pages.items():
        figures.append(Figure(name, "s", tuple(whole for whole, _ in pairs)))
        figures.append(Figure(f"{name}, p95 of an object", "s", tuple(p95 for _, p95 in pairs)))
    return Outcome(figures)


async def _crowd(run: Run) -> Outcome:
    samples: defaultdict[str, list[float]] = defaultdict(list)
    async with run.course(WAN) as across, toxproxy(across) as ours:

        async def work(streams: int, seconds: float) -> dict[str, Any]:
            return await across.work(
                "crowd", way=[ours.forward, None], streams=streams, seconds=seconds,
                every=_REQUEST_EVERY, size=_REQUEST_BYTES,
            )  # fmt: skip

        async for _ in run.times():
            alone = await work(0, run.size(12))
            among = await work(_BULK, run.size(24))
            samples["alone"].append(1000 * percentile(alone["times"], 0.95))
            samples["among"].append(1000 * percentile(among["times"], 0.95))
            samples["apart"].append(100 * (1 - min(among["bytes"]) / max(among["bytes"])))
            samples["rate"].append(sum(among["bytes"]) / among["seconds"] / MB)
    return Outcome(
        [
            Figure(
                "p95 of a request, of that without the others",
                "×",
                ratios(samples["among"], samples["alone"]),
                Bound(2.5, at_most=True),
            ),
            Figure("slowest of 40 below the fastest", "%", tuple(samples["apart"]), Bound(20, at_most=True)),
            Figure("p95 of a request", "ms", tuple(samples["among"])),
            Figure("p95 of a request without the others", "ms", tuple(samples["alone"])),
            Figure("all 40 together", "MB/s", tuple(samples["rate"])),
        ]
    )


async def _idle(run: Run) -> Outcome:
    count, seconds = run.size(_IDLE), run.size(20)
    samples: defaultdict[str, list[float]] = defaultdict(list)
    async for _ in run.times():
        async with run.course(CLEAN) as across, toxproxy(across) as ours:
            before = [machine.memory(pid) for pid in ours.processes]
            arguments = {"way": [ours.forward, None], "count": count, "at_once": AT_ONCE}
            command = python("bench.load", "idle", json.dumps(arguments))
            async with running(across.network.near, across.folder, "load-idle", *command) as load:
                await load.line()
                used = sum(machine.processor_seconds(pid) for pid in ours.processes)
                await asyncio.sleep(seconds)
                used = sum(machine.processor_seconds(pid) for pid in ours.processes) - used
                after = [machine.memory(pid) for pid in ours.processes]
                load.end_input()
                await load.result()
        for name, old, new in zip(("client", "server"), before, after, strict=True):
            samples[name].append((new - old) / count / 1000)
        samples["processor"].append(100 * used / seconds)
    return Outcome(
        [
            Figure("memory of one at the client", "KB", tuple(samples["client"]), Bound(15, at_most=True)),
            Figure("memory of one at the server", "KB", tuple(samples["server"]), Bound(15, at_most=True)),
            Figure(
                "both processes together",
                "% of a core",
                tuple(samples["processor"]),
                Bound(1, at_most=True),
            ),
        ]
    )


async def _stalled(run: Run) -> Outcome:
    samples: defaultdict[str, list[float]] = defaultdict(list)
    size = run.size(60 * MB)
    async for _ in run.times():
        async with run.course(WAN) as across, toxproxy(across) as ours:
            samples["alone"].append(await download(across, ours, size, 60))
            before = [machine.memory(pid) for pid in ours.processes]
            arguments = {"way": [ours.forward, None], "count": _STALLED, "size": 64 * MB}
            command = python("bench.load", "stalled", json.dumps(arguments))
            async with running(across.network.near, across.folder, "load-stalled", *command) as load:
                await load.line()
                await _still(across)
                after = [machine.memory(pid) for pid in ours.processes]
                samples["beside"].append(await download(across, ours, size, 60))
                load.end_input()
                await load.result()
        for name, old, new in zip(("client", "server"), before, after, strict=True):
            samples[name].append((new - old) / MB)
    return Outcome(
        [
            Figure(
                "a download beside them, of one alone",
                "×",
                ratios(samples["beside"], samples["alone"]),
                Bound(0.9),
            ),
            Figure("they cost the client", "MB", tuple(samples["client"]), Bound(_MEMORY, at_most=True)),
            Figure("they cost the server", "MB", tuple(samples["server"]), Bound(_MEMORY, at_most=True)),
            Figure("a download alone", "MB/s", tuple(samples["alone"])),
        ]
    )


async def _still(across: Course) -> None:
    """Wait until hardly any bytes cross the link any more."""
    before = -1.0
    async with asyncio.timeout(_STALLING):
        while (now := await _crossed(across)) - before > _STILL or before < 0:
            before = now
            await asyncio.sleep(_STILL_SECONDS)


async def _crossed(across: Course) -> float:
    """Bytes that have arrived at the near end so far."""
    command = (*across.network.near.command, "ip", "-j", "-s", "link", "show", "dev", "link")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return float(json.loads(output)[0]["stats64"]["rx"]["bytes"])


async def _openings(run: Run) -> Outcome:
    count, rates = run.size(_OPENINGS), []
    async with run.course(CLEAN) as across, toxproxy(across) as ours:
        async for _ in run.times():
            result = await across.work(
                "page", way=[ours.forward, None], objects=count, size=1, at_once=AT_ONCE
            )
            rates.append(count / result["seconds"])
    return Outcome([Figure("opened, answered and closed", "per second", tuple(rates), Bound(1000))])


async def _delay(run: Run) -> Outcome:
    points: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for delay in _DELAYS:
        link = Link.alike(f"{2 * delay} ms", replace(WAN.down, delay=delay))
        for name, pairs in (await _pages(run, link)).items():
            points[name].append((2 * delay, percentile([whole for whole, _ in pairs], 0.5)))
    return Outcome(series=[Series(name, tuple(line)) for name, line in points.items()])


ROWS = (
    Row("page", f"{OBJECTS} objects of 30 KB, {AT_ONCE} at a time, through SOCKS", WAN, _page),
    Row("crowd", f"{_BULK} downloads and a new 10 KB request every 50 ms", WAN, _crowd),
    Row("idle", f"{_IDLE:,} idle streams", CLEAN, _idle),
    Row("stalled", f"a download beside {_STALLED} that nobody reads", WAN, _stalled),
    Row("openings", "opening streams", CLEAN, _openings),
)
DELAY = Row("delay", "page time over delay, 100 Mbit/s and 1 % loss", WAN, _delay, 900)
