"""A client and a server that connect across the rig, and what they say about their path."""

from __future__ import annotations

import asyncio
import json
import secrets
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any

from bench.emulator import Emulator
from bench.links import CLEAN, Link
from bench.program import python, running
from faults.nats import nodes
from faults.nats.helpers import help_out
from faults.nats.kinds import KINDS, Helper, Kind
from faults.nats.rig import LAN_ROUTER, PROXY_PORT, Home, Rig
from toxproxy.demo.network import Process

_TOX = "[tox]\nlocal_discovery = no\nbootstrap = {bootstrap}\n"
_SERVER = "[access]\nsecret = {secret}\npermit = 127.0.0.1:{origin}, 127.0.0.1:{file}\n"
_CLIENT = """\
[access]
secret = {secret}
[client]
origin = 0:127.0.0.1:{origin}:TOXID
file = 0:127.0.0.1:{file}:TOXID
"""


class Way(Enum):
    """How an end reaches its friend, as libtoxcore says."""

    NONE = "none"
    TCP = "relay"
    UDP = "direct"


@dataclass(frozen=True)
class Setting:
    """What a pair is put into. Losses of the link follow from the seed, and so do the nodes' keys.

    With `own_relay` there is one node, and it is a toxproxy. `size`: bytes of the file that can be fetched.
    `lead`: seconds that the server runs before the client starts.
    """

    client: str  # the names of kinds
    server: str
    nodes: int = 12
    link: Link = CLEAN
    seed: int = 1
    size: int = 5_000_000
    lead: float = 10.0
    own_relay: bool = False

    @property
    def kinds(self) -> tuple[Kind, Kind]:
        """The kinds of the client's and the server's router."""
        return KINDS[self.client], KINDS[self.server]

    @property
    def port(self) -> int:
        """The port of the nodes, UDP and TCP. A client without UDP needs both: see `bootstrap` in `tox/`."""
        return max(kind.only_port for kind in self.kinds) or nodes.PORT

    def __str__(self) -> str:
        return f"{self.client}–{self.server}"


@dataclass
class Pair:
    """The two processes and their homes. `began` is when the client was started, by `time.time`."""

    rig: Rig
    nodes: list[nodes.Node]
    homes: tuple[Home, Home]
    client: Process
    server: Process
    folder: Path
    size: int
    ports: dict[str, int]  # of the services in the server's home, by name
    began: float

    def path(self, at: float | None = None) -> Way:
        """The worse of what the two ends send over, at a time; now without one."""
        order = list(Way)
        ways = [_course(process, at) for process in (self.client, self.server)]
        return min((way[-1][1] if way else Way.NONE for way in ways), key=order.index)

    def direct_since(self) -> float | None:
        """When both ends had begun to send directly, if they still do."""
        ways = [_course(process) for process in (self.client, self.server)]
        if not all(way and way[-1][1] is Way.UDP for way in ways):
            return None
        return max(way[-1][0] for way in ways)

    def port(self, name: str) -> tuple[str, int]:
        """Where the client's forward listens."""
        (address,) = (entry["address"] for entry in self.client.ready["listeners"] if entry["name"] == name)
        host, _, port = address.rpartition(":")
        return host, int(port)

    async def work(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run `bench.load` beside the client, through its forward if no other `way` is given.

        Returns its result. Raises `ProgramFailed`.
        """
        arguments.setdefault("way", [self.port("origin"), None])
        command = python("bench.load", name, json.dumps(arguments))
        async with running(self.homes[0].place, self.folder, f"load-{name}", *command) as program:
            return await program.result()

    @asynccontextmanager
    async def fetching(self, seconds: float) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Download the file. Yields the lines of `faults.transfer fetch` as they come."""
        host, port = self.port("file")
        command = python("faults.transfer", "fetch", host, str(port), str(self.size), str(seconds))
        async with running(self.homes[0].place, self.folder, "fetch", *command) as program:

            async def lines() -> AsyncIterator[dict[str, Any]]:
                said: dict[str, Any] = {}
                while "whole" not in said:
                    yield (said := await program.result())

            yield lines()

    def tails(self) -> str:
        """The last lines of both logs."""
        ends = (self.server, self.client)
        return "\n".join(f"{end.name}: {line}" for end in ends for line in end.tail)


def _course(process: Process, until: float | None = None) -> list[tuple[float, Way]]:
    """When an end's path to its friend became what, as its log says, up to a time."""
    found = []
    for line in process.log.read_text().splitlines():
        record = json.loads(line)
        if record["message"].startswith("friend ") and ": " in record["message"]:
            name = record["message"].rpartition(": ")[2].upper()
            at = datetime.fromisoformat(record["time"]).timestamp()
            if name in Way.__members__ and (until is None or at <= until):
                found.append((at, Way[name]))
    return found


@asynccontextmanager
async def paired(
    setting: Setting, emulator: Emulator | None = None, control: str = ""
) -> AsyncIterator[Pair]:
    """Start everything for a setting. The two may not have found each other yet.

    `emulator` is needed for a setting with a link. `control` is the TCP congestion control of all hosts.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="toxproxy-nats-")))
        rig = stack.enter_context(Rig(emulator))
        if setting.own_relay:
            known = await nodes.start_toxproxy(stack, rig, folder, setting.port)
        else:
            known = await nodes.start(stack, rig, folder, setting.nodes, setting.seed, setting.port)
        homes = tuple(
            rig.home(side, kind, setting.link, setting.seed + number)
            for number, (side, kind) in enumerate(zip(("client", "server"), setting.kinds, strict=True))
        )
        near, far = homes
        near.count(far)
        far.count(near)
        for home in homes:
            await help_out(stack, home, folder)
        if control:
            rig.use(control)
        secret, ports = secrets.token_hex(16), {}
        for name, command in (
            ("origin", python("bench.origin")),
            ("file", python("faults.transfer", "serve", str(setting.size))),
        ):
            service = await stack.enter_async_context(running(far.place, folder, name, *command))
            ports[name] = int(await service.line())
        server, client = Process("server", folder, far.place), Process("client", folder, near.place)
        stack.push_async_callback(server.stop)
        await server.start(_tox(far, known) + _SERVER.format(secret=secret, **ports), "-v")
        await asyncio.sleep(setting.lead)
        stack.push_async_callback(client.stop)
        began = time.time()
        text = _CLIENT.format(secret=secret, **ports).replace("TOXID", server.ready["tox_id"])
        await client.start(_tox(near, known) + text, "-v")
        yield Pair(rig, known, (near, far), client, server, folder, setting.size, ports, began)


def _tox(home: Home, known: list[nodes.Node]) -> str:
    """The section [tox] for an end in this home."""
    text = _TOX.format(bootstrap=", ".join(map(str, known)))
    if home.kind.helper is Helper.PROXY:
        return f"{text}proxy = http://{LAN_ROUTER}:{PROXY_PORT}\n"
    return f"{text}port_mapping = yes\n"
