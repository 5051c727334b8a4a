"""OpenSSH: `ssh -L -D` over TCP."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.program import running
from bench.tunnels import LOOPBACK, Course, Tunnel

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


@asynccontextmanager
async def cross(across: Course, control: str) -> AsyncIterator[Tunnel]:
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
