"""SSH by asyncssh, in Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import python, running
from bench.tunnels import LOOPBACK, Course, Tunnel


@asynccontextmanager
async def cross(across: Course) -> AsyncIterator[Tunnel]:
    """SSH by asyncssh, run by `asyncssh_ends`."""
    across.network.use("cubic")
    network, port, forward = across.network, 2300, 3300
    client = python(
        "bench.rivals.asyncssh_ends", "client", network.far.address, str(port), str(forward), str(across.port)
    )
    server = python("bench.rivals.asyncssh_ends", "server", str(port))
    async with (
        running(network.far, across.folder, "asyncssh-server", *server) as far,
        running(network.near, across.folder, "asyncssh-client", *client) as near,
    ):
        ends = near.pid, far.pid
        yield await across.reached(
            Tunnel("asyncssh (cubic)", (LOOPBACK, forward), ends, (LOOPBACK, forward + 1))
        )
