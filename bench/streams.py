"""Rows with one stream: how much of a link it fills and what it costs, beside Tox alone, ssh and others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

from bench import machine
from bench.figures import Bound, Figure, Series, ratios
from bench.links import CLEAN, FAR, SLOW, WAN, Link
from bench.program import python, running
from bench.run import Outcome, Row, Run
from bench.tunnels import Course, Tunnel, toxproxy

MB = 1_000_000

_BLAST_SECONDS = 5.0
_LONGEST = 120.0  # seconds: the time limit of a download
_RIVAL_LONGEST = 12.0  # the same for a rival: enough to measure its rate
_COST = 20.0  # CPU seconds of each end for 1 GB
_LOSSES = (0.0, 0.1, 1.0, 2.0, 5.0)


def rate(result: dict[str, Any]) -> float:
    """MB/s of a transfer."""
    return float(result["bytes"]) / float(result["seconds"]) / MB


async def download(across: Course, tunnel: Tunnel, size: int, seconds: float, what: str = "send") -> float:
    """The rate of one download, in MB/s."""
    way = [tunnel.forward, None]
    return rate(await across.work("download", way=way, size=size, seconds=seconds, what=what))


async def blast(across: Course, *options: str) -> float:
    """MB/s that arrive when one process sends Tox packets to another without a pause."""
    far, near = across.network.far, across.network.near
    async with running(
        far, across.folder, "blast-listen", *python("bench.blast", "listen", *options)
    ) as listener:
        known = await listener.result()
        where = ("--address", far.address, "--port", str(known["port"]), "--key", known["key"])
        who = ("--tox-id", known["tox_id"], "--seconds", str(_BLAST_SECONDS))
        async with running(
            near, across.folder, "blast-send", *python("bench.blast", "send", *where, *who, *options)
        ) as sender:
            await sender.result()
            return rate(await listener.result())


async def _clean(run: Run) -> Outcome:
    rates: defaultdict[str, list[float]] = defaultdict(list)
    costs: defaultdict[str, list[float]] = defaultdict(list)
    async with run.tunnels(CLEAN, "ssh (bbr)") as (across, tunnels):
        ours = tunnels[0]
        size, way = run.size(500 * MB), [ours.forward, None]
        async for _ in run.times():
            for tunnel in tunnels:
                before = [machine.family_seconds(pid) for pid in tunnel.processes]
                rates[tunnel.name].append(await download(across, tunnel, size, 300))
                after = [machine.family_seconds(pid) for pid in tunnel.processes]
                for end, then, now in zip(("receiver", "sender"), before, after, strict=True):
                    costs[f"{tunnel.name}, {end}"].append((now - then) / size * 1e9)
            rates["up"].append(rate(await across.work("upload", way=way, size=size, seconds=300)))
            rates["plain"].append(await blast(across))
            rates["unlocked"].append(await blast(across, "--unlocked"))
    rates["down"] = rates[ours.name]
    bound = Bound(_COST, at_most=True)
    figures = []
    for way_name in ("down", "up"):
        share = ratios(rates[way_name], rates["plain"])
        other = ratios(rates[way_name], rates["unlocked"])
        figures += [
            Figure(f"{way_name}, of Tox alone", "×", share, Bound(0.30)),
            Figure(f"{way_name}, of Tox alone without locking memory", "×", other, Bound(0.30)),
            Figure(way_name, "MB/s", tuple(rates[way_name])),
        ]
    figures += [
        Figure("Tox alone, as the library is", "MB/s", tuple(rates["plain"])),
        Figure("Tox alone, without locking memory", "MB/s", tuple(rates["unlocked"])),
        *(
            Figure(name, "CPU s per GB", tuple(cost), bound if name.startswith(ours.name) else None)
            for name, cost in costs.items()
        ),
    ]
    return Outcome(figures)


async def _rates(run: Run, link: Link, size: int, *rivals: str) -> dict[str, list[float]]:
    """MB/s of toxproxy and of rivals, by name, for each repetition."""
    rates: defaultdict[str, list[float]] = defaultdict(list)
    async with run.tunnels(link, *rivals) as (across, tunnels):
        async for _ in run.times():
            for tunnel in tunnels:
                longest = _RIVAL_LONGEST if tunnel.name in run.rivals else _LONGEST
                rates[tunnel.name].append(await download(across, tunnel, size, longest))
    return rates


def _figures(rates: dict[str, list[float]]) -> list[Figure]:
    return [Figure(name, "MB/s", tuple(values)) for name, values in rates.items()]


def _against(rates: dict[str, list[float]], rival: str, limit: float) -> list[Figure]:
    """The figure that compares toxproxy with a rival, if the rival was measured."""
    if rival not in rates:
        return []
    return [Figure(f"of {rival}", "×", ratios(rates["toxproxy"], rates[rival]), Bound(limit))]


def _filled(rates: dict[str, list[float]], link: Link, limit: float) -> Figure:
    shares = tuple(100 * value / link.capacity for value in rates["toxproxy"])
    return Figure(f"of the link's {link.capacity:g} MB/s", "%", shares, Bound(limit))


async def _far(run: Run) -> Outcome:
    rates = await _rates(run, FAR, run.size(100 * MB), "ssh (bbr)")
    return Outcome(_against(rates, "ssh (bbr)", 0.8) + _figures(rates))


async def _wan(run: Run) -> Outcome:
    rates = await _rates(run, WAN, run.size(300 * MB), *run.rivals)
    compared = _against(rates, "ssh (bbr)", 1.1) + _against(rates, "ssh (cubic)", 20)
    return Outcome([_filled(rates, WAN, 92), *compared, *_figures(rates)])


async def _slow(run: Run) -> Outcome:
    rates = await _rates(run, SLOW, run.size(40 * MB), "ssh (bbr)")
    return Outcome([_filled(rates, SLOW, 85), *_figures(rates)])


async def _text(run: Run) -> Outcome:
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    size = run.size(20 * MB)
    async with run.course(SLOW) as across, toxproxy(across) as ours:
        async for _ in run.times():
            for what in ("text", "send"):
                seconds[what].append(size / MB / await download(across, ours, size, 120, what))
    return Outcome(
        [
            Figure(
                "speed of a log, of random bytes'",
                "×",
                ratios(seconds["send"], seconds["text"]),
                Bound(3),
            ),
            Figure("a log", "s", tuple(seconds["text"])),
            Figure("random bytes, as TLS looks", "s", tuple(seconds["send"])),
        ]
    )


async def _loss(run: Run) -> Outcome:
    points: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for loss in _LOSSES:
        link = Link.alike(f"{loss:g} % loss", replace(WAN.down, loss=loss))
        rates = await _rates(run, link, run.size(50 * MB), "ssh (bbr)", "ssh (cubic)")
        for name, values in rates.items():
            points[name].append((loss, sorted(values)[len(values) // 2]))
    return Outcome(series=[Series(name, tuple(line)) for name, line in points.items()])


ROWS = (
    Row("clean", "one stream, 500 MB, down and up", CLEAN, _clean),
    Row("far", "one stream, 100 MB", FAR, _far),
    Row("wan", "one stream, 300 MB", WAN, _wan),
    Row("slow", "one stream, 40 MB", SLOW, _slow),
    Row("text", "a log of 20 MB", SLOW, _text),
)
LOSS = Row("loss", "throughput over loss, 100 Mbit/s and 50 ms", WAN, _loss, 900)
