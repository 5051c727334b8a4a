"""OpenSSH over TCP: `ssh -L -D`, and `ssh -w`."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.program import Program, running
from bench.rivals.base import output, until_done
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
PermitTunnel yes
"""
_ADDRESSES = ("10.76.0.1", "10.76.0.2")  # private: a Tox node in the same place does not tell them


@asynccontextmanager
async def cross(across: Course, control: str) -> AsyncIterator[Tunnel]:
    """`ssh -L -D` with an sshd of its own, over TCP with this congestion control."""
    number = 2 * ("cubic", "bbr").index(control)
    port, forward, socks = 2200 + number, 3200 + number, 3201 + number
    across.network.use(control)
    words = ("-L", f"{forward}:{LOOPBACK}:{across.port}", "-D", str(socks))
    async with _session(across, f"ssh-{control}", port, *words) as ends:
        yield await across.reached(Tunnel(f"ssh ({control})", (LOOPBACK, forward), ends, (LOOPBACK, socks)))


@asynccontextmanager
async def cross_device(across: Course) -> AsyncIterator[Tunnel]:
    """`ssh -w`: a network device at each end, and all IP packets in one TCP connection (bbr)."""
    across.network.use("bbr")
    async with _session(across, "ssh-device", 2210, "-w", "0:0") as ends:
        for place, address in zip((across.network.near, across.network.far), _ADDRESSES, strict=True):
            add = (*place.command, "ip", "address", "add", f"{address}/30", "dev", "tun0")
            await asyncio.to_thread(until_done, *add)
            output(*place.command, "ip", "link", "set", "dev", "tun0", "up")
        origin = (_ADDRESSES[1], across.port)
        yield await across.reached(Tunnel("ssh -w (bbr)", origin, ends, datagrams=origin))


@asynccontextmanager
async def _session(across: Course, name: str, port: int, *words: str) -> AsyncIterator[tuple[int, int]]:
    """A connection of ssh with these words on its command line. Yields the process ids of ssh and sshd."""
    async with daemon(across, name, port) as (far, command):
        near = (*command, "-N", *words, user_at(across.network.far.address))
        async with running(across.network.near, across.folder / name, "ssh", *near) as program:
            yield program.pid, far.pid


@asynccontextmanager
async def daemon(across: Course, name: str, port: int) -> AsyncIterator[tuple[Program, tuple[str, ...]]]:
    """An sshd at the far address, and how a command line of ssh for it begins."""
    folder = across.folder / name
    write_keys(folder)
    config = SSHD_CONFIG.format(address=across.network.far.address, port=port, folder=folder)
    (folder / "sshd_config").write_text(config)
    options = ["StrictHostKeyChecking=no", f"UserKnownHostsFile={folder}/known_hosts", "IdentitiesOnly=yes"]
    options += ["BatchMode=yes", "ExitOnForwardFailure=yes", "ConnectionAttempts=30"]
    command = ["ssh", "-F", "none", "-i", f"{folder}/user_key", "-p", str(port)]
    command += [word for option in options for word in ("-o", option)]
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"  # sshd executes itself again, so it needs its full path
    words = (sshd, "-D", "-e", "-f", f"{folder}/sshd_config")
    async with running(across.network.far, folder, "sshd", *words) as program:
        yield program, tuple(command)


def user_at(host: str) -> str:
    """Whom to be at the other end: the same user as here."""
    return f"{getpass.getuser()}@{host}"


def write_keys(folder: Path) -> None:
    folder.mkdir()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # Debian's sshd wants it
    for key in ("host_key", "user_key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(command, check=True)
