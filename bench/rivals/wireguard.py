"""WireGuard by wireguard-go: TCP from end to end, through a tunnel that does not touch it.

Its CPU time is that of the two tunnels; TCP is the kernel's.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from bench.program import ProgramFailed, running
from bench.tunnels import Course, Tunnel
from toxproxy.demo.network import Place

_PORT = 51820
_ATTEMPTS, _PAUSE = 100, 0.05  # seconds
_ADDRESSES = ("198.19.0.1", "198.19.0.2")  # RFC 2544: reserved for benchmarks
_DEVICES = ("wgnear", "wgfar")


@asynccontextmanager
async def cross(across: Course, control: str) -> AsyncIterator[Tunnel]:
    """A tunnel whose TCP has this congestion control."""
    network, folder = across.network, across.folder
    network.use(control)
    places = (network.near, network.far)
    keys = [_output("wg", "genkey") for _ in places]
    public = [_output("wg", "pubkey", given=key) for key in keys]
    async with AsyncExitStack() as stack:
        ends = []
        for place, device in zip(places, _DEVICES, strict=True):
            command = ("wireguard-go", "-f", device)
            ends.append(await stack.enter_async_context(running(place, folder, device, *command)))
        for here, there in ((0, 1), (1, 0)):
            (folder / f"{_DEVICES[here]}.key").write_text(keys[here])
            await asyncio.to_thread(_configure, across, here, public[there], places[there])
        tunnel = Tunnel(f"WireGuard ({control})", (_ADDRESSES[1], across.port), (ends[0].pid, ends[1].pid))
        yield await across.reached(tunnel)


def _configure(across: Course, here: int, peer: str, there: Place) -> None:
    place = (across.network.near, across.network.far)[here]
    device, address, other = _DEVICES[here], _ADDRESSES[here], _ADDRESSES[1 - here]
    own = ("listen-port", str(_PORT), "private-key", str(across.folder / f"{device}.key"))
    link = ("peer", peer, "allowed-ips", f"{other}/32", "endpoint", f"{there.address}:{_PORT}")
    _until_done(*place.command, "wg", "set", device, *own, *link)
    _output(*place.command, "ip", "address", "add", f"{address}/30", "dev", device)
    _output(*place.command, "ip", "link", "set", "dev", device, "up", "mtu", "1420")


def _until_done(*command: str) -> None:
    """Run a command again until it succeeds: the device and its socket are not there at once."""
    for _ in range(_ATTEMPTS):
        if not subprocess.run(command, capture_output=True, check=False).returncode:
            return
        time.sleep(_PAUSE)
    _output(*command)


def _output(*command: str, given: str = "") -> str:
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramFailed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
