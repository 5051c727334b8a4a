"""Rows in which a download shares the link: with plain TCP, and with another session of toxproxy."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from bench.figures import Bound, Figure, ratios
from bench.keystrokes import MB
from bench.links import DEEP, POLICED, WAN, Link
from bench.run import Outcome, Row, Run
from bench.tunnels import Course, Tunnel, toxproxy

_SECONDS = 20
_HEAD_START = 5.0  # seconds that one session has before the other begins


async def _together(across: Course, ways: list[Tunnel | None], seconds: int, after: float = 0) -> list[float]:
    """MB/s of two downloads while both run. The second begins `after` the first. None is plain TCP."""
    direct = (across.network.far.address, across.port)
    first, second = ([way.forward if way else direct, None] for way in ways)
    result = await across.work("beside", way=first, other=second, seconds=seconds, after=after)
    return [got / seconds / MB for got in result["bytes"]]


async def _beside(run: Run) -> Outcome:
    samples: defaultdict[str, list[float]] = defaultdict(list)
    async with run.course(WAN, "cubic") as across, toxproxy(across) as ours:
        direct = [(across.network.far.address, across.port), None]
        seconds = run.size(15)
        async for _ in run.times():
            rates = await _together(across, [ours, None], seconds)
            for name, rate in zip(("toxproxy", "TCP"), rates, strict=True):
                samples[name].append(rate)
            alone = await across.work("download", way=direct, size=1 << 40, seconds=seconds)
            samples["alone"].append(alone["bytes"] / alone["seconds"] / MB)
    return Outcome(
        [
            Figure("toxproxy beside TCP", "MB/s", tuple(samples["toxproxy"]), Bound(0.1)),
            Figure("TCP (cubic) beside toxproxy", "MB/s", tuple(samples["TCP"]), Bound(0.1)),
            Figure("TCP (cubic) beside nothing", "MB/s", tuple(samples["alone"])),
            Figure(
                "TCP beside toxproxy, of TCP beside nothing", "×", ratios(samples["TCP"], samples["alone"])
            ),
        ]
    )


async def _shared(run: Run, control: str, share: float) -> Outcome:
    """`share` in percent is what toxproxy should have of what both get."""
    ours, theirs = [], []
    async for number in run.times():
        async with run.course(DEEP, control, number) as across, toxproxy(across) as tunnel:
            rates = await _together(across, [tunnel, None], run.size(_SECONDS))
            ours.append(rates[0])
            theirs.append(rates[1])
    shares = tuple(100 * our / max(our + their, 1e-9) for our, their in zip(ours, theirs, strict=True))
    return Outcome(
        [
            Figure("toxproxy's share", "%", shares, Bound(share)),
            Figure("toxproxy", "MB/s", tuple(ours)),
            Figure(f"TCP ({control})", "MB/s", tuple(theirs)),
        ]
    )


async def _two(run: Run, link: Link, most: float) -> Outcome:
    """`most` is how many times the rate of one session may be that of the other."""
    samples: list[list[float]] = []
    async for number in run.times():
        async with (
            run.course(link, seed=number) as across,
            toxproxy(across, "first") as first,
            toxproxy(across, "second") as second,
        ):
            samples.append(await _together(across, [first, second], run.size(_SECONDS), _HEAD_START))
    apart = tuple(max(rates) / max(min(rates), 1e-9) for rates in samples)
    return Outcome(
        [
            Figure("the faster, of the slower", "×", apart, Bound(most, at_most=True)),
            Figure("the first session", "MB/s", tuple(rates[0] for rates in samples)),
            Figure("the second session", "MB/s", tuple(rates[1] for rates in samples)),
        ]
    )


ROWS = (
    Row("beside", "a download beside one over plain TCP (cubic)", WAN, _beside),
    *(
        Row(
            f"beside-{control}",
            f"a download beside one over plain TCP ({control})",
            DEEP,
            partial(_shared, control=control, share=share),
        )
        for control, share in (("cubic", 15), ("bbr", 25))
    ),
    *(
        Row(
            f"two-{link.name}",
            f"downloads through two sessions; one begins {_HEAD_START:g} s after the other",
            link,
            partial(_two, link=link, most=most),
        )
        for link, most in ((DEEP, 1.5), (WAN, 1.5), (POLICED, 3.0))
    ),
)
