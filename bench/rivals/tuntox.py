"""tuntox: another tunnel over Tox."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import Program, ProgramFailed, python, running
from bench.tunnels import LOOPBACK, Course, Tunnel

_TOX_ID = re.compile(r"\b[0-9A-F]{76}\b")


@asynccontextmanager
async def cross(across: Course, program: str) -> AsyncIterator[Tunnel]:
    """Another tunnel over Tox. A third node on the far side is the bootstrap node of both ends."""
    network, folder, forward = across.network, across.folder, 3600
    async with running(network.far, folder, "introducer", *python("bench.blast", "listen")) as introducer:
        known = await introducer.result()
        nodes = folder / "nodes.json"
        nodes.write_text(json.dumps({"nodes": [_introduction(network.far.address, known)]}))
        async with running(
            network.far, folder, "tuntox-server", program, "-C", str(folder), "-b", str(nodes)
        ) as far:
            tox_id = await _said(far)
            line = f"{forward}:{LOOPBACK}:{across.port}"
            client = (program, "-b", str(nodes), "-i", tox_id, "-L", line)
            async with running(network.near, folder, "tuntox-client", *client) as near:
                yield await across.reached(Tunnel("tuntox", (LOOPBACK, forward), (near.pid, far.pid)))


def _introduction(address: str, known: dict[str, str | int]) -> dict[str, object]:
    """A bootstrap node in the format of https://nodes.tox.chat/json."""
    state = {"status_udp": True, "status_tcp": False, "tcp_ports": []}
    return {"ipv4": address, "ipv6": "-", "port": known["port"], "public_key": known["key"], **state}


async def _said(server: Program) -> str:
    """The Tox ID that the server prints within its first lines."""
    for _ in range(50):
        if found := _TOX_ID.search(await server.line()):
            return found[0]
    raise ProgramFailed("tuntox: expected its Tox ID, found none")
