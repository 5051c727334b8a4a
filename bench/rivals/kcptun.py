"""kcptun: TCP over a UDP protocol with retransmission and forward error correction."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import running
from bench.tunnels import LOOPBACK, Course, Tunnel


@asynccontextmanager
async def cross(across: Course) -> AsyncIterator[Tunnel]:
    """kcptun with its default settings: TCP over a UDP protocol with retransmission."""
    network, port, forward = across.network, 2500, 3500
    server = ("kcptun-server", "-t", f"{LOOPBACK}:{across.port}", "-l", f":{port}")
    client = ("kcptun-client", "-r", f"{network.far.address}:{port}", "-l", f"{LOOPBACK}:{forward}")
    async with (
        running(network.far, across.folder, "kcptun-server", *server) as far,
        running(network.near, across.folder, "kcptun-client", *client) as near,
    ):
        yield await across.reached(Tunnel("kcptun", (LOOPBACK, forward), (near.pid, far.pid)))
