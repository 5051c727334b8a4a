"""iroh from PyPI: QUIC between two keys. A stream for each connection, driven from Python.

Its binding passes each piece of a stream through an event loop, which limits the rate whatever the link.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import python, running
from bench.tunnels import LOOPBACK, Course, Tunnel


@asynccontextmanager
async def cross(across: Course) -> AsyncIterator[Tunnel]:
    """iroh without relays and discovery: the near end is told the far end's address."""
    network, port, forward = across.network, 2700, 3700
    server = python("bench.rivals.iroh_ends", "server", network.far.address, str(port), str(across.port))
    async with running(network.far, across.folder, "iroh-server", *server) as far:
        key = (await far.line()).strip()
        where = (network.near.address, network.far.address, str(port), key, str(forward))
        client = python("bench.rivals.iroh_ends", "client", *where)
        async with running(network.near, across.folder, "iroh-client", *client) as near:
            here = (LOOPBACK, forward)
            yield await across.reached(Tunnel("iroh", here, (near.pid, far.pid), datagrams=here))
