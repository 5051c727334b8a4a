"""A run of the benchmark: what each row gets and what it returns."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.emulator import Emulator
from bench.figures import Figure, Series
from bench.links import Link
from bench.rivals import Crossing
from bench.tunnels import Course, Tunnel, course, toxproxy
from toxproxy.errors import ToxproxyError


@dataclass(frozen=True)
class Outcome:
    """What a row measured: figures for the table, series for a plot."""

    figures: list[Figure] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)


@dataclass
class Run:
    """How to measure: the number of `repetitions`, and the `scale` by which sizes and times are multiplied.

    `rivals` are the installed ones, by name. `others` is the highest load by other programs seen so far,
    in percent of the machine.
    """

    emulator: Emulator
    say: Callable[[str], None]
    repetitions: int = 3
    scale: float = 1.0
    rivals: dict[str, Crossing] = field(default_factory=dict)
    others: float = 0.0

    def size(self, count: float) -> int:
        """`count` bytes, objects or seconds, scaled for this run."""
        return max(1, round(count * self.scale))

    @asynccontextmanager
    async def course(self, link: Link, control: str = "bbr", seed: int = 1) -> AsyncIterator[Course]:
        """A new network with an origin. `control` is the congestion control of its TCP."""
        self.say(f"making the link: {link}")
        with (
            tempfile.TemporaryDirectory(prefix="toxproxy-bench-") as folder,
            self.emulator.network(link, seed) as network,
        ):
            network.use(control)
            async with course(network, Path(folder)) as across:
                yield across

    @asynccontextmanager
    async def tunnels(self, link: Link, *rivals: str) -> AsyncIterator[tuple[Course, list[Tunnel]]]:
        """toxproxy and those of `rivals` that are installed and work, all across one new network."""
        async with self.course(link) as across, AsyncExitStack() as stack:
            tunnels = [await stack.enter_async_context(toxproxy(across))]
            for name in rivals:
                if name in self.rivals:
                    try:
                        tunnels.append(await stack.enter_async_context(self.rivals[name](across)))
                    except ToxproxyError as error:
                        self.say(f"{name} is left out: {error}")
            yield across, tunnels

    @asynccontextmanager
    async def tunnel(
        self, link: Link, name: str, seed: int = 1
    ) -> AsyncIterator[tuple[Course, Tunnel | None]]:
        """toxproxy or a rival, alone across a new network. None if the rival does not work there."""
        async with self.course(link, seed=seed) as across, AsyncExitStack() as stack:
            self.say(f"measuring {name}")
            tunnel: Tunnel | None = None
            if name == "toxproxy":
                tunnel = await stack.enter_async_context(toxproxy(across))
            else:
                try:
                    tunnel = await stack.enter_async_context(self.rivals[name](across))
                except ToxproxyError as error:
                    self.say(f"{name} is left out: {error}")
            yield across, tunnel

    async def times(self) -> AsyncIterator[int]:
        """The numbers of the repetitions, from 1. Measures the load by other programs around each."""
        for number in range(1, self.repetitions + 1):
            self.others = max(self.others, await machine.others())
            self.say(f"repetition {number} of {self.repetitions}")
            yield number
        self.others = max(self.others, await machine.others())


@dataclass(frozen=True)
class Row:
    """A row of the table. `seconds` is its time limit."""

    name: str
    what: str
    link: Link
    measure: Callable[[Run], Awaitable[Outcome]]
    seconds: float = 400.0
