"""The tunnels that are compared, each set up as its users do, across an emulated network.

Each has a port in the near place that is forwarded to the origin in the far place. Those that can also
have a SOCKS proxy in the near place.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.emulator import Network
from bench.program import python, running
from toxproxy.demo.network import PrivateNetwork, Process

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
_REACH_SECONDS = 60.0

_RELAY_SECONDS = 120.0  # until two nodes without UDP have found each other
_NODE_PORT = 21000

_NODE = "[tox]\nlocal_discovery = no\n"
_SERVER = "[access]\npermit = {host}:{port}\n"
_CLIENT = "[client]\norigin = 0:{host}:{port}:TOXID\n[socks]\nproxy = 0:TOXID\n[limits]\nconnections = 8192\n"


@dataclass(frozen=True)
class Tunnel:
    """A running tunnel: `forward` leads to the origin, `socks` is a proxy. Both are in the near place.

    `processes` are the process ids of the near and the far program. `datagrams` is where UDP goes that is for
    the origin's port.
    """

    name: str
    forward: Address
    processes: tuple[int, int]
    socks: Address | None = None
    datagrams: Address | None = None


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
async def toxproxy(across: Course, name: str = "toxproxy") -> AsyncIterator[Tunnel]:
    """This program, as its users run it. `name` is that of its folder."""
    folder = across.folder / name
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


@asynccontextmanager
async def relayed(across: Course) -> AsyncIterator[Tunnel]:
    """This program where there is no UDP: through a TCP relay in the far place."""
    near, far = across.network.near, across.network.far
    # Segments as small as between real hosts. One of 64 KiB can fill the receive buffer of a TCP relay that
    # waits for the rest of a packet: then both ends wait for ever.
    await _done(*far.command, "ip", "link", "set", "dev", "lo", "mtu", "1500")
    secret = secrets.token_hex(16)
    async with AsyncExitStack() as stack:
        ends = []
        for name, place in (("node", far), ("server", far), ("client", near)):
            folder = across.folder / f"relayed-{name}"
            folder.mkdir()
            ends.append(Process("client" if name == "client" else "server", folder, place))
            stack.push_async_callback(ends[-1].stop)
        node, server, client = ends
        ports = f"port = {_NODE_PORT}-{_NODE_PORT}\ntcp_relay = {_NODE_PORT}\n"
        await node.start(f"{_NODE}bootstrap = none\n{ports}")
        tox = f"{_NODE}bootstrap = {far.address}:{_NODE_PORT}:{node.ready['dht_key']}\nudp = no\n"
        access = f"[access]\nsecret = {secret}\npermit = {LOOPBACK}:{across.port}\n"
        await server.start(tox + access)
        forward = f"[client]\norigin = 0:{LOOPBACK}:{across.port}:{server.ready['tox_id']}\n"
        await client.start(f"{tox}[access]\nsecret = {secret}\n{forward}")
        await client.wait_for("ready", _RELAY_SECONDS)
        host, _, port = str(client.ready["listeners"][0]["address"]).rpartition(":")
        yield await across.reached(Tunnel("toxproxy", (host, int(port)), (client.pid, server.pid)))


async def _done(*command: str) -> None:
    await (await asyncio.create_subprocess_exec(*command)).wait()
