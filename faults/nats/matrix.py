"""What is measured of a pair, the table of all pairs, and the bounds that they must keep."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median, mode

from bench.emulator import Emulator
from bench.figures import percentile
from bench.program import ProgramFailed
from faults.nats.kinds import KINDS
from faults.nats.pair import Pair, Setting, Way, paired
from toxproxy.demo.network import ProcessFailed

MB = 1_000_000
CONNECT_SECONDS = 120.0  # until a pair is given up
LATER = 45.0  # seconds after the connection at which the path is looked at again
_TYPE_SECONDS = 5.0
_GRACE = 15.0  # seconds that programs may take to start and end
_FETCH_SECONDS = 90.0

MEDIAN_CONNECT, MOST_CONNECT = 30.0, 60.0  # seconds
DIRECT_WITHIN, DIRECT_SHARE = 30.0, 0.9  # seconds after the client's start, of the runs

#: Kinds that have the same outer port for everyone, so that libtoxcore can punch; or that map a port.
PUNCHABLE = frozenset({"full-cone", "restricted", "cone", "short", "policed", "carrier"})
MAPPED = frozenset({"open", "igd", "pcp"})
NO_UDP = frozenset({"no-udp", "only-443", "proxy"})

#: The pairs that `make nats` measures, client first.
PAIRS = (
    *("open-open", "cone-open", "open-cone", "full-cone-cone", "restricted-cone", "cone-cone"),
    *("symmetric-open", "symmetric-full-cone", "symmetric-cone", "cone-symmetric", "symmetric-symmetric"),
    *("counting-cone", "counting-counting", "carrier-cone", "carrier-carrier", "carrier-symmetric"),
    *("cone-no-udp", "no-udp-no-udp", "short-short", "policed-cone", "only-443-cone", "proxy-cone"),
    *("igd-symmetric", "symmetric-igd", "pcp-symmetric", "pcp-pcp", "only-443-only-443"),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Milliseconds that a keystroke takes there and back. None if nothing came."""

    p50: float | None = None
    p95: float | None = None

    @classmethod
    def of(cls, times: list[float]) -> Keys:
        """From the times in seconds."""
        if not times:
            return cls()
        return cls(*(1000 * percentile(times, share) for share in (0.5, 0.95)))

    def __str__(self) -> str:
        return "-" if self.p50 is None or self.p95 is None else f"{self.p50:.0f}/{self.p95:.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What was measured of a pair. Times in seconds from the client's start, None if it did not happen.

    `share` says how much of the download came directly over UDP, as the routers counted, from 0 to 1.
    """

    connected: float | None = None
    first: Way = Way.NONE
    direct: float | None = None
    later: Way = Way.NONE
    whole: bool = False
    rate: float = 0.0  # MB/s
    share: float = 0.0
    silence: float = 0.0
    alone: Keys = Keys()
    beside: Keys = Keys()
    why: str = ""


async def measure(
    setting: Setting,
    emulator: Emulator | None = None,
    seconds: float = LATER,
    typing: float = _TYPE_SECONDS,
) -> Result:
    """Connect a pair, type, download, type beside a download, and see what its path is after `seconds`.

    `typing`: seconds of each typing.
    """
    async with paired(setting, emulator) as pair:
        try:
            await pair.client.wait_for("ready", CONNECT_SECONDS)
        except ProcessFailed as error:
            return Result(why=str(error))
        found = time.time()
        alone, why = await _typed(pair, 0, typing)
        whole, rate, share, silence, lacking = await _fetched(pair)
        beside, halted = await _typed(pair, 1, typing)
        await asyncio.sleep(max(0.0, found + seconds - time.time()))
        direct = pair.direct_since()
        return Result(
            connected=found - pair.began,
            first=pair.path(found),
            direct=None if direct is None else max(direct, found) - pair.began,
            later=pair.path(),
            whole=whole,
            rate=rate,
            share=share,
            silence=silence,
            alone=alone,
            beside=beside,
            why="; ".join(filter(None, (why, lacking, halted))),
        )


async def _typed(pair: Pair, down: int, seconds: float) -> tuple[Keys, str]:
    """Type beside so many downloads."""
    try:
        async with asyncio.timeout(seconds + _GRACE):
            done = await pair.work("typing", seconds=seconds, down=down)
        return Keys.of(done["times"]), ""
    except (TimeoutError, ProgramFailed) as error:
        return Keys(), f"typing failed: {error or 'no answer'}".splitlines()[0]


async def _fetched(pair: Pair) -> tuple[bool, float, float, float, str]:
    """Download the file. Whether it came whole, at which rate, what share directly, its longest silence,
    and what went wrong."""
    before, course, said = pair.homes[0].arrived(), [], {}
    async with pair.fetching(_FETCH_SECONDS) as lines:
        async for said in lines:
            course.append((said["at"], said["got"]))
    share = pair.homes[0].arrived().since(before).share
    took = course[-1][0] - course[0][0]
    return said["whole"], course[-1][1] / took / MB, share, longest_silence(course), said["why"]


def longest_silence(course: list[tuple[float, int]]) -> float:
    """The longest time in which a download got nothing, in seconds. `course`: the bytes so far at a time."""
    longest, since, had = 0.0, course[0][0], course[0][1]
    for at, got in course:
        if got != had or at == course[-1][0]:
            longest, since, had = max(longest, at - since), at, got
    return longest


def middle(results: list[Result]) -> Result:
    """The medians of several runs. What did not happen in half of them did not happen. `whole` is all."""

    def half(values: Iterable[float | None]) -> float | None:
        value = median(math.inf if value is None else value for value in values)
        return None if math.isinf(value) else value

    return Result(
        connected=half(one.connected for one in results),
        first=mode(one.first for one in results),
        direct=half(one.direct for one in results),
        later=mode(one.later for one in results),
        whole=all(one.whole for one in results),
        rate=median(one.rate for one in results),
        share=median(one.share for one in results),
        silence=median(one.silence for one in results),
        alone=Keys(half(one.alone.p50 for one in results), half(one.alone.p95 for one in results)),
        beside=Keys(half(one.beside.p50 for one in results), half(one.beside.p95 for one in results)),
    )


# The table

_COLUMNS = (
    *("pair", "connected s", "path then", "direct s", f"path {LATER:g} s later", "5 MB", "MB/s", "by UDP"),
    *("keys ms", "beside ms", "silence s"),
)


def header() -> str:
    """The first two lines of the table."""
    return f"| {' | '.join(_COLUMNS)} |\n|{' --- |' * len(_COLUMNS)}"


def row(name: str, result: Result) -> str:
    """A line of the table."""
    cells = (
        name,
        _seconds(result.connected),
        result.first.value,
        _seconds(result.direct),
        result.later.value,
        "whole" if result.whole else "NOT WHOLE",
        f"{result.rate:.2f}",
        f"{100 * result.share:.0f} %",
        str(result.alone),
        str(result.beside),
        f"{result.silence:.1f}",
    )
    return f"| {' | '.join(cells)} |" + (f" {result.why}" if result.why else "")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def faults(setting: Setting, results: list[Result]) -> list[str]:
    """Which bounds the runs of a pair did not keep, one sentence each."""
    found = []
    connected = [CONNECT_SECONDS if one.connected is None else one.connected for one in results]
    if (half := median(connected)) > MEDIAN_CONNECT:
        found.append(f"connected after {half:.1f} s (median), expected {MEDIAN_CONNECT:g} at most")
    if (most := max(connected)) > MOST_CONNECT:
        found.append(f"connected after {most:.1f} s once, expected {MOST_CONNECT:g} at most")
    if broken := sum(not one.whole for one in results):
        found.append(f"{broken} of {len(results)} downloads were not whole")
    if must_be_direct(setting):
        direct = sum(one.direct is not None and one.direct <= DIRECT_WITHIN for one in results)
        if direct < DIRECT_SHARE * len(results):
            found.append(f"direct within {DIRECT_WITHIN:g} s in {direct} of {len(results)}")
    return [f"{setting}: {text}" for text in found]


def must_be_direct(setting: Setting) -> bool:
    """Whether a direct path is expected: both can be punched, or others can send to one of them."""
    ends = {setting.client, setting.server}
    return not ends & NO_UDP and (bool(ends & MAPPED) or ends <= PUNCHABLE)


def pair_of(text: str) -> tuple[str, str]:
    """The client's and the server's kind in CLIENT-SERVER. Raises `ValueError`."""
    for client in KINDS:
        server = text.removeprefix(f"{client}-")
        if server != text and server in KINDS:
            return client, server
    raise ValueError(f"expected CLIENT-SERVER with kinds of {', '.join(KINDS)}, found {text!r}")
