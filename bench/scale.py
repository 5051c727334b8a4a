"""How a server fares with many clients, and a client with many servers: `python -m bench.scale`.

Everything is real: servers are processes as their users run them, clients are whole clients, several in a
process (`bench.clients`), on a Tox network of their own. Printed is what one end costs the other while
nothing happens, how long it takes until all are there, and how equal their downloads are: Jain's index, 1 if
all get the same, 1/n if one gets everything.

Without `--link` all is on loopback, where the processor is the limit. With one, the servers are on one side
of an emulated link and the clients on the other (as root). It ends by itself within four minutes. The status
is 1 where a bound is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import machine
from bench.emulator import Emulator
from bench.figures import Bound, Figure, jain
from bench.links import LINKS, Link, parse
from bench.program import Program, python, running
from toxproxy.demo.network import HERE, Place, Process
from toxproxy.errors import ToxproxyError

_NODES = 2  # beside the servers: somebody must know everyone from the start
_LONGEST = 90.0  # seconds until who is not there yet does not come
_SETTLE, _IDLE, _ALONE = 10.0, 15.0, 5.0  # seconds
_LEAD = 0.5  # seconds from an order to the time that it names
_TOX = "[tox]\nlocal_discovery = no\nbootstrap = {nodes}\nport = 22000-27999\nwait = 10\n"
_MB, _GB = 1e6, 1e9
_MOST = 1000  # of whatever


@dataclass
class Scene:
    """The processes. `texts` are configurations of clients, by process; `origin` is a port at the servers."""

    servers: list[Process]
    crowds: list[Program]
    texts: list[list[str]]
    origin: int

    def spent(self) -> tuple[float, float]:
        """Processor time so far, in seconds: of all servers, and of all processes with clients."""
        return (
            sum(machine.processor_seconds(each.pid) for each in self.servers),
            sum(machine.processor_seconds(each.pid) for each in self.crowds),
        )

    def memory(self) -> tuple[float, float]:
        """Private memory in MB, of the same."""
        return (
            sum(machine.memory(each.pid) for each in self.servers) / _MB,
            sum(machine.memory(each.pid) for each in self.crowds) / _MB,
        )

    async def idle(self) -> tuple[float, float]:
        """Processor time while nothing happens, in per cent of a core, of the same."""
        before, began = self.spent(), time.monotonic()
        await asyncio.sleep(_IDLE)
        seconds = time.monotonic() - began
        (server, client), (was_server, was_client) = self.spent(), before
        return 100 * (server - was_server) / seconds, 100 * (client - was_client) / seconds

    async def ask(self, orders: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give each process its order, and collect the answers."""
        for crowd, order in zip(self.crowds, orders, strict=False):
            crowd.tell(json.dumps(order))
        return [await crowd.result() for crowd, _ in zip(self.crowds, orders, strict=False)]

    async def download(self, seconds: float, *, alone: bool = False) -> tuple[list[int], tuple[float, float]]:
        """The bytes of each client from each server, and the processor time of both sides meanwhile."""
        order = {"port": self.origin, "seconds": seconds, "at": time.monotonic() + _LEAD, "only": int(alone)}
        before = self.spent()
        answers = await self.ask([order] if alone else [order] * len(self.crowds))
        after = self.spent()
        got = [count for answer in answers for row in answer["bytes"] for count in row]
        return got, (after[0] - before[0], after[1] - before[1])


async def measure(scene: Scene, seconds: float) -> list[Figure]:
    """Bring the clients in and measure; the downloads take so many seconds."""
    clients, servers = sum(map(len, scene.texts)), len(scene.servers)
    links = clients * servers
    memory, used = scene.memory(), await scene.idle()
    since = time.monotonic()
    entering = [{"texts": some, "since": since, "longest": _LONGEST} for some in scene.texts]
    arrivals = [each for answer in await scene.ask(entering) for each in answer["seconds"]]
    there = sorted(each for each in arrivals if each is not None)
    if not there:
        raise ToxproxyError(f"no client was there after {_LONGEST:g} s")
    await asyncio.sleep(_SETTLE)
    idle, held = await scene.idle(), scene.memory()
    others = await machine.others()
    alone, _ = await scene.download(_ALONE, alone=True)
    got, cost = await scene.download(seconds)
    busy, total = scene.memory(), max(1, sum(got))
    return [
        _figure("clients that were there", "", len(there), Bound(clients)),
        _figure("all there after", "s", there[-1], Bound(60, at_most=True)),
        _figure("half there after", "s", there[len(there) // 2]),
        _figure("a server without clients, memory", "MB", memory[0] / servers),
        _figure(
            "a server, memory for each client", "MB", (held[0] - memory[0]) / links, Bound(2, at_most=True)
        ),
        _figure("… while all download", "MB", (busy[0] - memory[0]) / links),
        _figure("a server without clients, idle", "% of a core", used[0] / servers),
        _figure("a server with all, idle", "% of a core", idle[0] / servers),
        _figure("… for each client", "%", (idle[0] - used[0]) / links, Bound(0.05, at_most=True)),
        _figure("a client, memory", "MB", (held[1] - memory[1]) / clients),
        _figure("a client, idle", "% of a core", idle[1] / clients),
        _figure("Jain's index of the downloads", "", jain(got), Bound(0.95)),
        _figure("least and most of a mean download", "%", 100 * min(got) * len(got) / total),
        _figure("", "%", 100 * max(got) * len(got) / total),
        _figure("all downloads together", "MB/s", total / seconds / _MB),
        _figure("one client alone", "MB/s", sum(alone) / _ALONE / _MB),
        _figure("others used, before that", "% of the machine", others),
        _figure("processor time of the servers", "s per GB", cost[0] / total * _GB),
        _figure("processor time of the clients", "s per GB", cost[1] / total * _GB),
    ]


def _figure(what: str, unit: str, value: float, bound: Bound | None = None) -> Figure:
    return Figure(what, unit, (value,), bound)


@asynccontextmanager
async def started(folder: Path, near: Place, far: Place, sizes: argparse.Namespace) -> AsyncIterator[Scene]:
    """Start everything but the clients themselves. The files of the processes are in `folder`."""
    ends: list[Process] = []
    crowds: list[Program] = []
    secret = secrets.token_hex(16)

    def tox() -> str:
        nodes = (f"{far.address}:{n.ready['udp_port']}:{n.ready['dht_key']}" for n in ends[:_NODES])
        return _TOX.format(nodes=",".join(nodes) or "none")

    async with AsyncExitStack() as stack:
        for number in range(_NODES + sizes.servers):
            process = Process("server", _folder(folder, f"server{number}"), far)
            stack.push_async_callback(process.stop)
            await process.start(f"{tox()}[access]\nsecret = {secret}\npermit = loopback:*\n")
            ends.append(process)
        servers = ends[_NODES:]
        origin = await stack.enter_async_context(running(far, folder, "origin", *python("bench.origin")))
        ways = [f"way{n} = 0:127.0.0.1:9:{each.ready['tox_id']}" for n, each in enumerate(servers)]
        keys = [f"{each.ready['tox_id']} = {secret}" for each in servers]
        text = "\n".join([tox(), "[client]", *ways, "[secrets]", *keys])
        count = min(sizes.processes, sizes.clients)
        for number in range(count):
            command = python("bench.clients", str(_folder(folder, f"clients{number}")))
            crowd = await stack.enter_async_context(running(near, folder, f"clients{number}", *command))
            crowds.append(crowd)
        texts = [[text] * len(range(number, sizes.clients, count)) for number in range(count)]
        yield Scene(servers, crowds, texts, int(await origin.line()))


def _folder(above: Path, name: str) -> Path:
    path = above / name
    path.mkdir()
    return path


async def run(sizes: argparse.Namespace, link: Link | None) -> list[Figure]:
    """Measure on loopback, or across a link."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with ExitStack() as stack:
        near = far = HERE
        if link is not None:
            network = stack.enter_context(stack.enter_context(Emulator()).network(link))
            near, far = network.near, network.far
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toxproxy-scale-")))
        async with started(folder, near, far, sizes) as scene:
            return await measure(scene, sizes.seconds)


def _positive(text: str) -> int:
    if not 0 < (number := int(text)) <= _MOST:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to {_MOST}, found {text}")
    return number


def main() -> int:
    """Measure as the command line says, and print. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description="Measure many clients or servers."
    )
    parser.add_argument("--clients", type=_positive, default=100, help="default: %(default)s")
    parser.add_argument(
        "--servers", type=_positive, default=1, help="each client uses all; default: %(default)s"
    )
    parser.add_argument(
        "--processes", type=_positive, default=4, help="for the clients; default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=_positive, default=20, help="of the downloads; default: %(default)s"
    )
    parser.add_argument("--link", help=f"{', '.join(LINKS)}, or KEY=VALUE,…; default: none, loopback")
    sizes = parser.parse_args()
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # for the processes
    machine.see_processes()
    try:
        figures = asyncio.run(run(sizes, parse([sizes.link]) if sizes.link else None))
    except (ToxproxyError, ValueError) as error:
        sys.exit(f"bench: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    for each in figures:
        print(line(each))
    return int(any(each.reached is False for each in figures))


def line(figure: Figure) -> str:
    """A figure, and whether it is good enough."""
    text = f"{figure.what:<40} {figure.value:>9.4g} {figure.unit}"
    if (bound := figure.bound) is None:
        return text
    wanted = f"{'≤' if bound.at_most else '≥'} {bound.limit:g}"
    return f"{text:<64} {wanted}: {'reached' if figure.reached else 'NOT REACHED'}"


if __name__ == "__main__":
    sys.exit(main())
