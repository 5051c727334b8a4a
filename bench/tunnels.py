"""The tunnels that are compared, each set up as its users do, across an emulated network.

Each has a port in the near place that is forwarded to the origin in the far place. Those that can also
have a SOCKS proxy in the near place.
"""

from __future__ import annotations

import getpass
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.emulator import Network
from bench.program import python, running
from toxproxy.demo.network import PrivateNetwork

Address = tuple[str, int]

LOOPBACK = "127.0.0.1"
_REACH_SECONDS = 60.0

_SERVER = "[access]\npermit = {host}:{port}\n"
_CLIENT = "[client]\norigin = 0:{host}:{port}:TOXID\n[socks]\nproxy = 0:TOXID\n"

SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
MaxSessions 1000
MaxStartups 1000
"""


@dataclass(frozen=True)
class Tunnel:
    """A running tunnel: `forward` leads to the origin, `socks` is a proxy. Both are in the near place.

    `processes` are the process ids of the near and the far program.
    """

    name: str
    forward: Address
    processes: tuple[int, int]
    socks: Address | None = None


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
async def toxproxy(across: Course) -> AsyncIterator[Tunnel]:
    """This program, as its users run it."""
    folder = across.folder / "toxproxy"
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
async def ssh(across: Course, control: str) -> AsyncIterator[Tunnel]:
    """`ssh -L -D` with an sshd of its own, over TCP with this congestion control."""
    number = 2 * ("cubic", "bbr").index(control)
    port, forward, socks = 2200 + number, 3200 + number, 3201 + number
    folder = across.folder / f"ssh-{control}"
    write_keys(folder)
    config = SSHD_CONFIG.format(address=across.network.far.address, port=port, folder=folder)
    (folder / "sshd_config").write_text(config)
    across.network.use(control)
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={folder}/known_hosts", "IdentitiesOnly=yes"]
    options += ["BatchMode=yes", "ExitOnForwardFailure=yes", "ConnectionAttempts=30"]
    command = ["ssh", "-F", "none", "-N", "-i", f"{folder}/user_key", "-p", str(port)]
    command += [word for option in options for word in ("-o", option)]
    command += ["-L", f"{forward}:{LOOPBACK}:{across.port}", "-D", str(socks)]
    command += [f"{getpass.getuser()}@{across.network.far.address}"]
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"  # sshd executes itself again, so it needs its full path
    async with AsyncExitStack() as stack:
        far, near = [
            await stack.enter_async_context(running(place, folder, name, *words))
            for place, name, words in (
                (across.network.far, "sshd", (sshd, "-D", "-e", "-f", f"{folder}/sshd_config")),
                (across.network.near, "ssh", tuple(command)),
            )
        ]
        yield await across.reached(
            Tunnel(f"ssh ({control})", (LOOPBACK, forward), (near.pid, far.pid), (LOOPBACK, socks))
        )


def write_keys(folder: Path) -> None:
    folder.mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's sshd wants it
    for key in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
