"""aioquic from PyPI: QUIC in Python. A stream for each connection, with its settings as they come."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.program import python, running
from bench.tunnels import LOOPBACK, Course, Tunnel


@asynccontextmanager
async def cross(across: Course) -> AsyncIterator[Tunnel]:
    """A forward by aioquic."""
    network, port, forward = across.network, 2800, 3800
    folder = across.folder / "aioquic"
    folder.mkdir()
    certificate, key = str(folder / "certificate"), str(folder / "key")
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench"]
    await asyncio.to_thread(
        subprocess.run, [*openssl, "-keyout", key, "-out", certificate], check=True, capture_output=True
    )
    server = ("server", network.far.address, str(port), certificate, key, str(across.port))
    client = ("client", network.far.address, str(port), str(forward))
    async with (
        running(network.far, folder, "server", *python("bench.rivals.quic_ends", *server)) as far,
        running(network.near, folder, "client", *python("bench.rivals.quic_ends", *client)) as near,
    ):
        yield await across.reached(Tunnel("aioquic", (LOOPBACK, forward), (near.pid, far.pid)))
