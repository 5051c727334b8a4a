"""One download across everything that can happen to a path, step by step."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from bench.emulator import Emulator
from bench.links import Direction, Link
from faults.nats.pair import Pair, Setting, Way, paired

_RATE = 16.0  # Mbit/s of the client's link, so that the download lasts through all steps
_LINK = Link.alike("ladder", Direction(delay=10, rate=_RATE, queue=200))
_SIZE = 250_000_000  # bytes
_STAY = 20.0  # seconds in each step, at least
_WAIT = 120.0  # seconds until a step has done what it should, and until bytes come again
_SILENT = (
    10.0  # seconds without a byte, at most; libtoxcore takes 8 of them (UDP_DIRECT_TIMEOUT in net_crypto.h)
)
_LOOK = 0.5
_MOST = 600.0  # seconds of the whole download

Point = tuple[float, int]  # a time, and the bytes that had come


@dataclass
class Step:
    """A part of the download. `after` says what became of the path."""

    name: str
    began: float
    over: float = 0.0
    after: str = ""

    def silence(self, course: list[Point]) -> float:
        """The longest time without a byte between the step's begin and its end, in seconds."""
        moments = [at for at, got in grown(course) if self.began < at < self.over]
        marks = [self.began, *moments, self.over]
        return max(later - earlier for earlier, later in pairwise(marks))

    def bytes(self, course: list[Point]) -> int:
        """How many bytes came in the step."""
        before = max((got for at, got in course if at <= self.began), default=0)
        return max((got for at, got in course if at <= self.over), default=0) - before


def grown(course: list[Point]) -> list[Point]:
    """The points at which there were more bytes than before."""
    found: list[Point] = []
    for point in course:
        if not found or point[1] > found[-1][1]:
            found.append(point)
    return found


async def climb(emulator: Emulator, nodes: int, seed: int) -> bool:
    """Run the ladder and print it. True if the download was whole, and never silent for too long."""
    setting = Setting("cone", "cone", nodes, _LINK, seed, _SIZE)
    async with paired(setting, emulator) as pair:
        await pair.client.wait_for("ready", 120)
        # At once, when the relays are young: then libtoxcore would close them while they are in use.
        print(f"at first: path {await _becomes(pair, Way.UDP)}", flush=True)
        for home in pair.homes:
            home.block_udp()
        print(f"without UDP: path {await _becomes(pair, Way.TCP)}", flush=True)
        course: list[Point] = []
        last: dict[str, Any] = {}
        async with pair.fetching(_MOST) as lines:
            following = asyncio.create_task(_follow(lines, course, last))
            try:
                steps = await _steps(pair, following, course)
                async with asyncio.timeout(_MOST):
                    await following
            finally:
                following.cancel()
        steps.append(Step("to the end", steps[-1].over, course[-1][0], f"path {pair.path().value}"))
    for step in steps:
        took = max(step.over - step.began, 0.001)
        print(
            f"{step.name}: {took:.1f} s, {step.bytes(course) / 1e6 / took:.2f} MB/s, "
            f"longest silence {step.silence(course):.1f} s; {step.after}",
            flush=True,
        )
    why = f" ({last['why']})" if last["why"] else ""
    print(f"the download: {'whole' if last['whole'] else 'NOT WHOLE'}{why}", flush=True)
    return bool(last["whole"]) and all(step.silence(course) <= _SILENT for step in steps)


async def _follow(lines: AsyncIterator[dict[str, Any]], course: list[Point], last: dict[str, Any]) -> None:
    async for said in lines:
        course.append((said["at"], said["got"]))
        last.update(said)


async def _steps(pair: Pair, following: asyncio.Task[None], course: list[Point]) -> list[Step]:
    """Do one thing after the other to the path, as long as the download lasts."""
    near = pair.homes[0]

    async def nothing() -> str:
        return "UDP was blocked from the beginning"

    async def allow() -> str:
        for home in pair.homes:
            home.allow_udp()
        return await _becomes(pair, Way.UDP)

    async def block() -> str:
        near.block_udp()
        return await _becomes(pair, Way.TCP)

    async def move() -> str:
        near.move()
        return f"the client's router has {near.address} now"

    async def kill() -> str:
        before = pair.rig.traffic()
        await asyncio.sleep(2)
        carried = {address: count - before[address] for address, count in pair.rig.traffic().items()}
        busiest = max(carried, key=carried.__getitem__)
        (node,) = (node for node in pair.nodes if node.place.address == busiest)
        await node.program.stop()
        return f"the node {busiest} had carried {carried[busiest] / 2e6:.2f} MB/s, and ended"

    todo: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("through a relay", nothing),
        ("UDP allowed", allow),
        ("UDP blocked", block),
        ("a new address", move),
        ("the relay's death", kill),
    ]
    steps: list[Step] = []
    for name, do in todo:
        if following.done():
            raise RuntimeError(f"the download ended before the step {name!r}: make it larger")
        step = Step(name, time.time())
        step.after = await do()
        await asyncio.wait((following,), timeout=_STAY)
        await _flows(course, following)
        step.over = time.time()
        step.after += f"; path {pair.path().value}"
        steps.append(step)
    return steps


async def _flows(course: list[Point], following: asyncio.Task[None]) -> None:
    """Wait until bytes come."""
    for _ in range(round(_WAIT / _LOOK)):
        had = course[-1][1]
        if (await asyncio.wait((following,), timeout=_LOOK))[0] or course[-1][1] > had:
            return


async def _becomes(pair: Pair, way: Way) -> str:
    """Wait until the path is of that kind."""
    began = time.time()
    for _ in range(round(_WAIT / _LOOK)):
        if pair.path() is way:
            return f"{way.value} after {time.time() - began:.1f} s"
        await asyncio.sleep(_LOOK)
    return f"not {way.value} after {_WAIT:g} s"
