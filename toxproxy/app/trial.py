"""What can be found out where nothing runs: a throw-away node looks for the network, ports are tried."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from toxproxy.app.checkup import ipv6, network
from toxproxy.config.settings import Config, ToxSettings
from toxproxy.control.checks import Check, CheckKind, Fault, fine, note, ordered, untried, wrong
from toxproxy.control.snapshots import NetworkPath
from toxproxy.errors import ToxproxyError
from toxproxy.inbound.listener import bound
from toxproxy.system.state import StateFlaw, StateFolder, flaw
from toxproxy.tox import library
from toxproxy.tox.bootstrap import introducers
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tox.reach import Reached, reach

_SECONDS = 14.0  # for the throw-away node
_FLAWS = {
    StateFlaw.FOREIGN: Fault.STATE_FOREIGN,
    StateFlaw.OPEN: Fault.STATE_OPEN,
    StateFlaw.UNUSABLE: Fault.STATE_UNUSABLE,
    StateFlaw.IN_USE: Fault.STATE_IN_USE,
}
_THROUGH = (
    CheckKind.ROUTER,
    CheckKind.PEER,
    CheckKind.TARGETS,
    CheckKind.NAMES,
    CheckKind.CLOCK,
    CheckKind.QUALITY,
)


async def trial(config: Config, folder: Path) -> tuple[Check, ...]:
    """Try what `config` needs here. `folder` is the state folder; nothing in it is changed or read."""
    checks = [libtoxcore(), state(folder), ipv6(), *await _ports(config)]
    checks += [untried(kind, Fault.NOT_RUNNING) for kind in _THROUGH]
    if checks[0].fault is not Fault.LIBRARY_MISSING:
        checks += await _joins(config.tox)
    return ordered(checks)


def libtoxcore() -> Check:
    """Which libtoxcore there is."""
    try:
        version, doubt = library.version(), library.warning()
    except library.LibraryMissing as error:
        return wrong(CheckKind.LIBRARY, Fault.LIBRARY_MISSING, detail=str(error))
    if doubt is not None:
        return note(CheckKind.LIBRARY, Fault.LIBRARY_DOUBTFUL, version)
    return fine(CheckKind.LIBRARY, version)


def state(folder: Path, *, running: bool = False) -> Check:
    """Whether the state folder can be used. `running`: by a process that has it."""
    found = flaw(folder)
    if found is None or (running and found[0] is StateFlaw.IN_USE):
        return fine(CheckKind.STATE, str(folder))
    return wrong(CheckKind.STATE, _FLAWS[found[0]], str(found[1]))


async def _ports(config: Config) -> list[Check]:
    checks = []
    for entry in config.listeners:
        about = f"{entry.bind} ({entry.name})"
        try:
            sockets = await bound(entry.bind)
        except OSError as error:
            fault = Fault.PORT_TAKEN if error.errno == errno.EADDRINUSE else Fault.PORT_UNUSABLE
            checks.append(wrong(CheckKind.PORTS, fault, about, detail=error.strerror))
            continue
        for sock in sockets:
            sock.close()
        checks.append(fine(CheckKind.PORTS, about))
    return checks


class _Events:
    """The owner of the throw-away node, which has no friends."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()

    def connection_changed(self, connection: ConnectionStatus) -> None:
        self.changed.set()

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None:
        """There is none."""

    def friend_request(self, key: bytes, message: bytes) -> None:
        """Nobody knows its Tox ID."""


async def _joins(settings: ToxSettings) -> list[Check]:
    nodes = introducers(settings)
    if not nodes:
        return network(NetworkPath.NONE, (), udp=settings.udp, settled=False)
    events = _Events()
    with tempfile.TemporaryDirectory(prefix="toxproxy-doctor-") as folder:
        node = Node(replace(settings, tcp_relay=0), StateFolder(Path(folder)), "toxproxy", events)
        try:
            async with node:
                ipv6 = not settings.on_loopback
                asked = asyncio.create_task(_reached(settings, ipv6=ipv6))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_SECONDS):
                        await _joined(node, events.changed, asked)
                found, udp = await asked, node.udp_port is not None
                return network(_path(node, found), found, udp=udp, settled=True)
        except ToxproxyError as error:
            return [
                untried(CheckKind.NODES, Fault.NOT_CONNECTED),
                wrong(CheckKind.PORTS, Fault.UDP_PORTS_TAKEN, "{}-{}".format(*settings.ports), str(error)),
            ]


async def _reached(settings: ToxSettings, *, ipv6: bool) -> list[Reached]:
    return [] if settings.proxy is not None else await reach(introducers(settings), ipv6=ipv6)


async def _joined(node: Node, changed: asyncio.Event, asked: asyncio.Task[list[Reached]]) -> None:
    """Wait until the node is in the network by UDP, or by whatever it may tell among local nodes."""
    found = await asked
    while _path(node, found) not in (NetworkPath.UDP, NetworkPath.LOCAL):
        changed.clear()
        await changed.wait()
        if node.udp_port is None and node.connection is not ConnectionStatus.NONE:
            return


def _path(node: Node, found: Sequence[Reached]) -> NetworkPath:
    match node.connection:
        case ConnectionStatus.UDP:
            return NetworkPath.UDP
        case ConnectionStatus.TCP:
            local = node.udp_port is not None and not any(each.public for each in found)
            return NetworkPath.LOCAL if local else NetworkPath.TCP
    return NetworkPath.NONE
