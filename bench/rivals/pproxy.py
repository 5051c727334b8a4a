"""pproxy: two proxies in a row, in Python."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import running
from bench.tunnels import LOOPBACK, Course, Tunnel

# pproxy 2.7.9 uses uvloop if it is installed, but does not start with a recent one.
_PPROXY = "import sys; sys.modules['uvloop'] = None; from pproxy.server import main; main()"


@asynccontextmanager
async def cross(across: Course) -> AsyncIterator[Tunnel]:
    """Two proxies in a row, unencrypted, with one TCP connection across the link for each stream."""
    across.network.use("cubic")
    network, port, forward, socks = across.network, 2400, 3400, 3401
    remote = f"socks5://{network.far.address}:{port}"
    program = (sys.executable, "-c", _PPROXY)
    listening = (
        *("-l", f"tunnel{{{LOOPBACK}:{across.port}}}://{LOOPBACK}:{forward}"),
        *("-l", f"socks5://{LOOPBACK}:{socks}"),
    )
    async with (
        running(network.far, across.folder, "pproxy-far", *program, "-l", remote) as far,
        running(network.near, across.folder, "pproxy-near", *program, *listening, "-r", remote) as near,
    ):
        ends = near.pid, far.pid
        yield await across.reached(Tunnel("pproxy (cubic)", (LOOPBACK, forward), ends, (LOOPBACK, socks)))
