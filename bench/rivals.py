"""Other tunnels to compare with: whether they are installed, and how to run them across a network."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.program import Program, ProgramFailed, python, running
from bench.tunnels import LOOPBACK, Course, Tunnel, ssh

_TOX_ID = re.compile(r"\b[0-9A-F]{76}\b")
_CONTROLS = ("bbr", "cubic")

# pproxy 2.7.9 uses uvloop if it is installed, but does not start with a recent one.
_PPROXY = "import sys; sys.modules['uvloop'] = None; from pproxy.server import main; main()"

Crossing = Callable[[Course], AbstractAsyncContextManager[Tunnel]]


@dataclass(frozen=True)
class Rival:
    """A tunnel to compare with: whether it is installed `here`, and how to run it `cross` a network."""

    name: str
    here: bool
    cross: Crossing


def rivals(tuntox: Path | None = None) -> list[Rival]:
    """All known rivals. tuntox is not searched for: `tuntox` is the path of its program."""
    has_ssh = all(_find(program) for program in ("ssh", "sshd", "ssh-keygen"))
    has_kcptun = all(_find(program) for program in ("kcptun-client", "kcptun-server"))
    return [
        *(Rival(f"ssh ({control})", has_ssh, partial(ssh, control=control)) for control in _CONTROLS),
        Rival("asyncssh (cubic)", importlib.util.find_spec("asyncssh") is not None, _asyncssh),
        Rival("pproxy (cubic)", importlib.util.find_spec("pproxy") is not None, _pproxy),
        Rival("kcptun", has_kcptun, _kcptun),
        Rival("tuntox", tuntox is not None, partial(_tuntox, program=str(tuntox))),
    ]


def _find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def _asyncssh(across: Course) -> AsyncIterator[Tunnel]:
    """SSH by asyncssh, run by `bench.asyncssh_ends`."""
    across.network.use("cubic")
    network, port, forward = across.network, 2300, 3300
    client = python(
        "bench.asyncssh_ends", "client", network.far.address, str(port), str(forward), str(across.port)
    )
    async with (
        running(
            network.far, across.folder, "asyncssh-server", *python("bench.asyncssh_ends", "server", str(port))
        ) as far,
        running(network.near, across.folder, "asyncssh-client", *client) as near,
    ):
        ends = near.pid, far.pid
        yield await across.reached(
            Tunnel("asyncssh (cubic)", (LOOPBACK, forward), ends, (LOOPBACK, forward + 1))
        )


@asynccontextmanager
async def _pproxy(across: Course) -> AsyncIterator[Tunnel]:
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


@asynccontextmanager
async def _kcptun(across: Course) -> AsyncIterator[Tunnel]:
    """kcptun with its default settings: TCP over a UDP protocol with retransmission."""
    network, port, forward = across.network, 2500, 3500
    server = ("kcptun-server", "-t", f"{LOOPBACK}:{across.port}", "-l", f":{port}")
    client = ("kcptun-client", "-r", f"{network.far.address}:{port}", "-l", f"{LOOPBACK}:{forward}")
    async with (
        running(network.far, across.folder, "kcptun-server", *server) as far,
        running(network.near, across.folder, "kcptun-client", *client) as near,
    ):
        yield await across.reached(Tunnel("kcptun", (LOOPBACK, forward), (near.pid, far.pid)))


@asynccontextmanager
async def _tuntox(across: Course, program: str) -> AsyncIterator[Tunnel]:
    """Another tunnel over Tox. A third node on the far side is the bootstrap node of both ends."""
    network, folder, forward = across.network, across.folder, 3600
    async with running(network.far, folder, "introducer", *python("bench.blast", "listen")) as introducer:
        known = await introducer.result()
        nodes = folder / "nodes.json"
        nodes.write_text(json.dumps({"nodes": [_introduction(network.far.address, known)]}))
        async with running(
            network.far, folder, "tuntox-server", program, "-C", str(folder), "-b", str(nodes)
        ) as far:
            tox_id = await _said(far)
            line = f"{forward}:{LOOPBACK}:{across.port}"
            client = (program, "-b", str(nodes), "-i", tox_id, "-L", line)
            async with running(network.near, folder, "tuntox-client", *client) as near:
                yield await across.reached(Tunnel("tuntox", (LOOPBACK, forward), (near.pid, far.pid)))


def _introduction(address: str, known: dict[str, str | int]) -> dict[str, object]:
    """A bootstrap node in the format of https://nodes.tox.chat/json."""
    state = {"status_udp": True, "status_tcp": False, "tcp_ports": []}
    return {"ipv4": address, "ipv6": "-", "port": known["port"], "public_key": known["key"], **state}


async def _said(server: Program) -> str:
    """The Tox ID that the server prints within its first lines."""
    for _ in range(50):
        if found := _TOX_ID.search(await server.line()):
            return found[0]
    raise ProgramFailed("tuntox: expected its Tox ID, found none")
