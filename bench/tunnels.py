"""The tunnels that are compared, each set up as its users do, across an emulated network.

Each has a port in the near place that is forwarded to the origin in the far place. Those that can also
have a SOCKS proxy in the near place.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.emulator import Network
from bench.program import python, running
from toxproxy.demo.network import PrivateNetwork

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
_REACH_SECONDS = 60.0

_SERVER = "[access]\npermit = {host}:{port}\n"
_CLIENT = "[client]\norigin = 0:{host}:{port}:TOXID\n[socks]\nproxy = 0:TOXID\n"


@dataclass(frozen=True)
class Tunnel:
    """A running tunnel: `forward` leads to the origin, `socks` is a proxy. Both are in the near place.

    `processes` are the process ids of the near and the far program.
    """

    name: str
    forward: Address
    processes: tuple[int, int]
    socks: Address | None = None


@dataclass(frozen=True)
class Course:
    """What a tunnel is tested on: the network, the origin's port on the far side, a folder for files."""

    network: Network
    port: int
    folder: Path

    async def work(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run `bench.load` in the near place. Returns its result."""
        command = python("bench.load", name, json.dumps(arguments))
        async with running(self.network.near, self.folder, f"load-{name}", *command) as program:
            return await program.result()

    async def reached(self, tunnel: Tunnel) -> Tunnel:
        """Wait until the origin answers through the tunnel, then return it."""
        await self.work("reach", way=[tunnel.forward, None], seconds=_REACH_SECONDS)
        return tunnel


@asynccontextmanager
async def course(network: Network, folder: Path) -> AsyncIterator[Course]:
    """A network with an origin."""
    async with running(network.far, folder, "origin", *python("bench.origin")) as origin:
        yield Course(network, int(await origin.line()), folder)


@asynccontextmanager
async def toxproxy(across: Course) -> AsyncIterator[Tunnel]:
    """This program, as its users run it."""
    folder = across.folder / "toxproxy"
    folder.mkdir(exist_ok=True)
    network = PrivateNetwork(
        folder,
        server=_SERVER.format(host=LOOPBACK, port=across.port),
        client=_CLIENT.format(host=LOOPBACK, port=across.port),
        places=(across.network.far, across.network.near),
    )
    async with network:
        await network.connected()
        ends = network.client.pid, network.server.pid
        yield await across.reached(
            Tunnel("toxproxy", network.listener("origin"), ends, network.listener("proxy"))
        )
