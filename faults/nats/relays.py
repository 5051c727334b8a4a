"""How fast it is through a TCP relay, beside ssh over the same two TCP connections.

With ssh, the server's home connects to the host of the relay (`ssh -R`), and so does the client's
(`ssh -L`), as both do with a Tox relay. The host of the relay runs an sshd.
"""

from __future__ import annotations

import asyncio
import getpass
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

from bench.emulator import Emulator
from bench.links import Direction, Link
from bench.program import running
from bench.rivals.ssh import SSHD_CONFIG, write_keys
from faults.nats import nodes
from faults.nats.matrix import MB, Keys
from faults.nats.pair import Pair, Setting, paired
from faults.nats.probe import socket_in

_LINK = Link.alike("relay", Direction(delay=25))
_SSHD_PORT, _LED_PORT, _FORWARD_PORT = 2222, 3222, 3223
_ALONE = 5.0  # seconds
_PINGS = 10


async def compare(emulator: Emulator, seconds: float, control: str, *, own: bool, seed: int) -> None:
    """Measure both and print them. `control` is the TCP congestion control of every host.

    The relay is a toxproxy if it is our `own`, or else tox-bootstrapd.
    """
    setting = Setting("no-udp", "no-udp", 1, _LINK, seed, own_relay=own)
    async with paired(setting, emulator, control) as pair:
        await pair.client.wait_for("ready", 120)
        relay = "toxproxy" if own else nodes.PROGRAM
        print(f"{_LINK} for either home; TCP with {control}; the relay is {relay}")
        trips = [await _trip(pair, number) for number in (0, 1)]
        near, far = trips
        print(f"round trip to the relay: {near:.0f} ms for the client, {far:.0f} ms for the server")
        print(await _measured(pair, "toxproxy", pair.port("origin"), seconds), flush=True)
        async with _ssh(pair) as address:
            print(await _measured(pair, "ssh", address, seconds), flush=True)


async def _trip(pair: Pair, number: int) -> float:
    """Milliseconds that a TCP handshake with the host of a relay takes."""
    loop, took = asyncio.get_running_loop(), []
    for _ in range(_PINGS):
        with socket_in(pair.homes[number].place) as sock:
            began = time.perf_counter()
            await loop.sock_connect(sock, (pair.nodes[0].place.address, nodes.PORT))
            took.append(1000 * (time.perf_counter() - began))
    return median(took)


async def _measured(pair: Pair, name: str, address: tuple[str, int], seconds: float) -> str:
    way = [address, None]
    await pair.work("reach", way=way, seconds=60)
    alone = await pair.work("typing", way=way, seconds=_ALONE, down=0)
    beside = await pair.work("typing", way=way, seconds=seconds, down=1)
    rate = sum(beside["down"]) / seconds / MB
    return (
        f"{name}: {rate:.2f} MB/s, longest silence {beside['silence']:.2f} s; a keystroke (p50/p95) "
        f"{Keys.of(alone['times'])} ms alone, {Keys.of(beside['times'])} ms beside it"
    )


@asynccontextmanager
async def _ssh(pair: Pair) -> AsyncIterator[tuple[str, int]]:
    """Lead a port of the client's home to the origin. Yields its address."""
    relay, (near, far) = pair.nodes[0].place, pair.homes
    folder = pair.folder / "ssh"
    write_keys(folder)
    (folder / "sshd_config").write_text(
        SSHD_CONFIG.format(address=relay.address, port=_SSHD_PORT, folder=folder)
    )
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={folder}/known_hosts", "IdentitiesOnly=yes"]
    options += ["BatchMode=yes", "ExitOnForwardFailure=yes", "ConnectionAttempts=30"]
    command = ["ssh", "-F", "none", "-N", "-i", f"{folder}/user_key", "-p", str(_SSHD_PORT)]
    command += [word for option in options for word in ("-o", option)]
    host = f"{getpass.getuser()}@{relay.address}"
    back = ["-R", f"127.0.0.1:{_LED_PORT}:127.0.0.1:{pair.ports['origin']}", host]
    there = ["-L", f"127.0.0.1:{_FORWARD_PORT}:127.0.0.1:{_LED_PORT}", host]
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    async with AsyncExitStack() as stack:
        for place, name, words in (
            (relay, "sshd", (sshd, "-D", "-e", "-f", f"{folder}/sshd_config")),
            (far.place, "ssh-far", (*command, *back)),
            (near.place, "ssh-near", (*command, *there)),
        ):
            await stack.enter_async_context(running(place, folder, name, *words))
        yield "127.0.0.1", _FORWARD_PORT
