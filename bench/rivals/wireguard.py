"""WireGuard by wireguard-go: TCP from end to end, through a tunnel that does not touch it.

Its CPU time is that of the two tunnels; TCP is the kernel's.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from bench.program import running
from bench.rivals.base import output, until_done
from bench.tunnels import Course, Tunnel

PORT = 51820  # of the far end
_ADDRESSES = ("10.77.0.1", "10.77.0.2")  # private: a Tox node in the same place does not tell them
_numbers = itertools.count()
_MTU = 1420

Endpoint = tuple[str, int]


@asynccontextmanager
async def cross(
    across: Course, control: str, *, mtu: int = _MTU, by: Endpoint | None = None
) -> AsyncIterator[Tunnel]:
    """A tunnel whose TCP has this congestion control.

    The near end sends to `by`, an address there that leads to the far end's port; else across the network.
    """
    network, folder = across.network, across.folder
    network.use(control)
    places = (network.near, network.far)
    keys = [output("wg", "genkey") for _ in places]
    public = [output("wg", "pubkey", given=key) for key in keys]
    peers = (by or (network.far.address, PORT), None if by else (network.near.address, PORT))
    # Their sockets are in /var/run, which all runs share.
    devices = [f"wg{os.getpid()}n{next(_numbers)}" for _ in places]
    async with AsyncExitStack() as stack:
        ends = []
        for place, device in zip(places, devices, strict=True):
            command = ("wireguard-go", "-f", device)
            ends.append(await stack.enter_async_context(running(place, folder, device, *command)))
        for here, there in ((0, 1), (1, 0)):
            secret = folder / f"{devices[here]}.key"
            secret.write_text(keys[here])
            own = ("listen-port", str(PORT), "private-key", str(secret))
            await asyncio.to_thread(until_done, *places[here].command, "wg", "set", devices[here], *own)
            link = ["peer", public[there], "allowed-ips", f"{_ADDRESSES[there]}/32"]
            if (peer := peers[here]) is not None:  # else the end learns it from what comes
                link += ["endpoint", f"{peer[0]}:{peer[1]}"]
            for words in (
                ("wg", "set", devices[here], *link),
                ("ip", "address", "add", f"{_ADDRESSES[here]}/30", "dev", devices[here]),
                ("ip", "link", "set", "dev", devices[here], "up", "mtu", str(mtu)),
            ):
                output(*places[here].command, *words)
        origin = (_ADDRESSES[1], across.port)
        pids = (ends[0].pid, ends[1].pid)
        yield await across.reached(Tunnel(f"WireGuard ({control})", origin, pids, datagrams=origin))
