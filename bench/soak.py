"""Memory during half an hour of mixed load: `python -m bench.soak [MINUTES]`.

Downloads, uploads, pages and keystrokes run again and again over the link `wan`, which is cut now and
then. The memory of both processes is recorded. The first sixth of the time is warm-up: afterwards the
memory should not grow any more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from pathlib import Path

from bench import machine
from bench.crowds import AT_ONCE, OBJECT_BYTES, OBJECTS
from bench.emulator import Emulator, Network
from bench.figures import Series, slope
from bench.links import WAN
from bench.plot import Axis, Plot, render
from bench.streams import MB
from bench.tunnels import LOOPBACK, Course, Tunnel, course, toxproxy
from toxproxy.errors import ToxproxyError

_MINUTES = 30.0
_EVERY = 5.0  # seconds between two samples
_PEACE, _CUT = 100.0, 5.0  # seconds
_WARM_UP = 1 / 6  # of the time
_PLOT = Plot("Memory during mixed load", Axis("minutes"), Axis("MB"))
_FILE = Path(__file__).parents[1] / "docs" / "memory.svg"


async def soak(across: Course, ours: Tunnel, seconds: float) -> list[Series]:
    """Make load for `seconds`. Returns the memory of the client and of the server, in MB over minutes."""
    points: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    began = time.monotonic()
    company = [asyncio.create_task(_load(across, ours)), asyncio.create_task(_disturb(across.network))]
    try:
        while (passed := time.monotonic() - began) < seconds:
            await asyncio.sleep(_EVERY)
            for line, pid in zip(points, ours.processes, strict=True):
                line.append((passed / 60, machine.memory(pid) / MB))
            for task in company:
                if task.done():
                    task.result()
    finally:
        for task in company:
            task.cancel()
        await asyncio.gather(*company, return_exceptions=True)
    return [Series(name, tuple(line)) for name, line in zip(("client", "server"), points, strict=True)]


async def _load(across: Course, ours: Tunnel) -> None:
    way, proxy = [ours.forward, None], [ours.socks, [LOOPBACK, across.port]]
    while True:
        async with asyncio.TaskGroup() as group:
            group.create_task(across.work("download", way=way, size=40 * MB, seconds=120))
            group.create_task(across.work("upload", way=way, size=10 * MB, seconds=120))
            group.create_task(across.work("typing", way=way, seconds=10, down=0))
            page = {"objects": OBJECTS, "size": OBJECT_BYTES, "at_once": AT_ONCE}
            group.create_task(across.work("page", way=proxy, **page))


async def _disturb(network: Network) -> None:
    while True:
        await asyncio.sleep(_PEACE)
        network.cut()
        await asyncio.sleep(_CUT)
        network.mend()


async def main(minutes: float) -> None:
    """Measure, draw the plot, and print how fast the memory grows."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with (
        Emulator() as emulator,
        tempfile.TemporaryDirectory(prefix="toxproxy-soak-") as folder,
        emulator.network(WAN) as network,
    ):
        async with course(network, Path(folder)) as across, toxproxy(across) as ours:
            lines = await soak(across, ours, 60 * minutes)
    _FILE.write_text(render(_PLOT, lines))
    for line in lines:
        warm = [(60 * minute, mb) for minute, mb in line.points if minute > _WARM_UP * minutes]
        print(
            f"{line.name}: {warm[0][1]:.1f} MB after the warm-up, {warm[-1][1]:.1f} MB at the end, ", end=""
        )
        print(f"{3600 * slope(warm):+.2f} MB per hour")
    print(f"The plot is {_FILE}.")


def _minutes() -> float:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description="Measure the memory of both ends during mixed load."
    )
    parser.add_argument("minutes", nargs="?", type=float, default=_MINUTES, help="default: %(default)g")
    return float(parser.parse_args().minutes)


if __name__ == "__main__":
    span = _minutes()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main(span))
    except ToxproxyError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
