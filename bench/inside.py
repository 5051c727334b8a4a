"""WireGuard in a UDP forward: what TCP in it gets, beside WireGuard without us on the same link."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

from bench.calls import calling
from bench.figures import Bound, Figure, ratios
from bench.keystrokes import Typed, typed
from bench.links import WAN, Direction, Link
from bench.rivals import wireguard
from bench.run import Outcome, Row, Run
from bench.tunnels import LOOPBACK

_SECONDS = 12.0
_FORWARD = 51000  # the port of the near end that WireGuard sends to
_MTU = 1280  # so that a datagram of WireGuard fits into one of ours
_SHARE = 0.8  # of WireGuard alone


_LINKS = {
    "wireguard-20": Link.alike("20", Direction(delay=25, rate=20, queue=300)),
    "wireguard-50": Link.alike("50", Direction(delay=25, rate=50, queue=300)),
    "wireguard": Link.alike("100", Direction(delay=25, rate=100, queue=600)),
}


async def _measured(run: Run, link: Link, seed: int, control: str, *, inside: bool) -> Typed:
    async with run.course(link, control, seed) as across:
        cross = partial(wireguard.cross, across, control, mtu=_MTU)
        if not inside:
            async with cross() as tunnel:
                return await typed(across, tunnel, run.size(_SECONDS))
        forward = f"wireguard = {LOOPBACK}:{_FORWARD}:{LOOPBACK}:{wireguard.PORT}/udp:TOXID"
        async with calling(across, forward), cross(by=(LOOPBACK, _FORWARD)) as tunnel:
            return await typed(across, tunnel, run.size(_SECONDS))


async def _inside(run: Run, link: Link, controls: tuple[str, ...]) -> Outcome:
    if "WireGuard (bbr)" not in run.rivals:
        run.say("left out: WireGuard is not installed")
        return Outcome()
    measured: defaultdict[tuple[str, bool], list[Typed]] = defaultdict(list)
    async for number in run.times():
        for control in controls:
            for inside in (False, True):
                measured[control, inside].append(await _measured(run, link, number, control, inside=inside))
    figures = []
    for control in controls:
        alone, ours = measured[control, False], measured[control, True]
        of_it = ratios([one.down for one in ours], [one.down for one in alone])
        figures.append(Figure(f"{control}, of WireGuard alone", "×", of_it, Bound(_SHARE)))
        for name, samples in (("WireGuard alone", alone), ("in a UDP forward", ours)):
            figures += [
                Figure(f"{control}, {name}", "MB/s", tuple(one.down for one in samples)),
                Figure(f"{control}, {name}, p95 of a keystroke", "ms", tuple(one.p95 for one in samples)),
            ]
    return Outcome(figures)


def _row(name: str, link: Link, *controls: str) -> Row:
    what = f"a download by TCP ({', '.join(controls)}) through WireGuard in a UDP forward"
    return Row(name, what, link, partial(_inside, link=link, controls=controls), 900)


ROWS = (
    *(_row(name, link, "bbr", "cubic") for name, link in _LINKS.items()),
    _row("wireguard-wan", WAN, "bbr"),
)
