"""What the tests in this folder share. Each part is started when a test first needs it.

Two Tox friends need ten seconds to connect, so there is one of each for all tests of a process. `network`
is for nearly all of them. `door` has a client that is not allowed yet and may be stopped. Both are on one
Tox network: a killed client is found again soon only if there are more nodes than its server. Both ends
of `pair` are in the test's own process.
"""

from __future__ import annotations

import asyncio
import json
import resource
import shlex
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from bench import machine
from tests.end.services import Page, answer_after_the_end, answer_and_reset, exchange
from tests.inbound.http_origin import HttpOrigin
from tests.inbound.peers import Origin, echo
from tests.joined import node_of
from tests.ports import unused_port
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import Process
from toxproxy.system.state import StateFolder

T = TypeVar("T")
Address = tuple[str, int]

PATIENCE = 60.0  # seconds
SETTLED = 10.0  # seconds
FEW_DESCRIPTORS = 512  # the soft limit of open files with which the processes start

_PRIVATE = """\
[tox]
bootstrap = {bootstrap}
local_discovery = no
port = 22000-22999
wait = 130
"""

_SERVER = """\
[access]
permit = 127.0.0.1:*, localhost:*, nonexistent.invalid:*
deny = 127.0.0.0/8:{denied}, [::1]:{denied}
[exit]
connect_timeout = 60
"""

_CLIENT = """\
[limits]
handshake = 60
[client]
echo = 0:127.0.0.1:{echo}:TOXID
knock = 0:127.0.0.1:{knock}:TOXID
exchange = 0:127.0.0.1:{exchange}:TOXID
ended = 0:127.0.0.1:{ended}:TOXID
broken = 0:127.0.0.1:{broken}:TOXID
web = 0:127.0.0.1:{web}:TOXID
dead = 0:127.0.0.1:{dead}:TOXID
ssh = 0:127.0.0.1:{ssh}:TOXID
[socks]
browser = 0:TOXID
locked = alice:secret@0:TOXID
"""


@dataclass
class Services:
    """The services behind the servers."""

    echo: Origin = field(default_factory=lambda: Origin(echo))
    knock: Origin = field(default_factory=lambda: Origin(echo))
    exchange: Origin = field(default_factory=lambda: Origin(exchange))
    ended: Origin = field(default_factory=lambda: Origin(answer_after_the_end))
    broken: Origin = field(default_factory=lambda: Origin(answer_and_reset))
    web: HttpOrigin = field(default_factory=HttpOrigin)
    denied: HttpOrigin = field(default_factory=HttpOrigin)  # the rules deny its port
    page: Page = field(default_factory=Page)
    dead: int = field(default_factory=unused_port)  # nobody listens on it
    ssh: int = field(default_factory=unused_port)  # for the sshd that a test starts

    @property
    def ports(self) -> dict[str, int]:
        """The port of each service by name."""
        return {name: what if isinstance(what, int) else what.port for name, what in vars(self).items()}


@dataclass
class Pair:
    """A client and a server in this process."""

    server: Server
    client: Client

    @property
    def proxy(self) -> Address:
        """The address of the client's proxy port."""
        (listening,) = self.client.listening()
        return _address(listening.address)


class Door:
    """A server that lets nobody in, and a client that asks to be let in. Both start from `bootstrap`.

    `first` is the task of a connection that was made just after the client's start. Its result is the
    answer.
    """

    def __init__(self, folder: Path, services: Services, bootstrap: str) -> None:
        self.server = Process("server", folder)
        self.client = Process("client", folder)
        self._folder = folder
        self._services = services
        self._bootstrap = bootstrap
        self.first: asyncio.Task[bytes] | None = None

    async def start(self) -> None:
        """Start the server and the client."""
        await self.server.start(
            f"{_PRIVATE.format(bootstrap=self._bootstrap)}[access]\npermit = 127.0.0.1:*\n"
        )
        await self.start_client()

    async def start_client(self) -> None:
        """Start the client, and make the connection `first` before it is connected to the server."""
        text = _PRIVATE.format(bootstrap=self._bootstrap) + _CLIENT.format(**self._services.ports)
        self.client = Process("client", self._folder)
        await self.client.start(text.replace("TOXID", self.server.ready["tox_id"]))
        self.first = asyncio.create_task(ask(self.forward("knock"), b"knock"))

    def forward(self, name: str) -> Address:
        """The address of one of the client's listeners."""
        (address,) = (entry["address"] for entry in self.client.ready["listeners"] if entry["name"] == name)
        return _address(address)

    async def client_waits(self) -> list[str]:
        """Wait until the server has got the client's request. Returns the command for it from the log."""
        line = await told(self.server, "toxproxy allow ")
        return shlex.split(line[line.index("toxproxy allow ") :])

    async def run(self, command: list[str]) -> None:
        """Run the command that the server's log shows."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == 0

    async def admitted(self) -> None:
        """Let the client in if necessary, and wait until it is connected."""
        if self.first is None or not self.first.done():
            await self.run(await self.client_waits())
        await self.client.wait_for("ready", PATIENCE)

    async def settled(self) -> None:
        """Wait until the client has been connected for a while.

        libtoxcore is slower to find a friend again that left soon after it came.
        """
        await self.admitted()
        ready = event_time(self.client, "ready")
        await asyncio.sleep(max(0.0, ready + SETTLED - time.time()))

    async def stop(self) -> None:
        """Stop the processes that still run."""
        if self.first is not None:
            self.first.cancel()
            await asyncio.wait((self.first,))
        await asyncio.gather(self.client.stop(), self.server.stop())


@asynccontextmanager
async def serving() -> AsyncIterator[Services]:
    """Start the services."""
    machine.see_processes()
    services = Services()
    async with AsyncExitStack() as stack:
        for service in vars(services).values():
            if isinstance(service, Origin):
                await stack.enter_async_context(service)
        yield services


@asynccontextmanager
async def networking(folder: Path, services: Services) -> AsyncIterator[PrivateNetwork]:
    """Start a network. Yields when it is connected."""
    server, client = (text.format(**services.ports) for text in (_SERVER, _CLIENT))
    async with AsyncExitStack() as stack:
        with soft_limit(FEW_DESCRIPTORS):
            network = PrivateNetwork(folder, server=server, client=client)
            await stack.enter_async_context(network)
        await network.connected(PATIENCE)
        yield network


@asynccontextmanager
async def waiting(folder: Path, services: Services, network: PrivateNetwork) -> AsyncIterator[Door]:
    """Start a server and a client that is not let in yet."""
    door = Door(folder, services, known_by(network.server))
    try:
        with soft_limit(FEW_DESCRIPTORS):
            await door.start()
        yield door
    finally:
        await door.stop()


@asynccontextmanager
async def pairing(folder: Path, services: Services) -> AsyncIterator[Pair]:
    """Start both ends in this process. Yields when they are connected."""
    text = _PRIVATE.format(bootstrap="none") + "[access]\nallow = *\npermit = 127.0.0.1:*\n"
    text += "[exit]\nconnect_timeout = 60\n"
    async with Server(config.parse(text, "server"), StateFolder(folder / "server")) as server:
        node = node_of(server)
        text = _PRIVATE.format(bootstrap=node) + f"[socks]\nbrowser = 0:{server.node.tox_id}\n"
        async with Client(config.parse(text, "client"), StateFolder(folder / "client")) as client:
            _, writer = await client.open_connection("127.0.0.1", services.echo.port)
            writer.close()
            yield Pair(server, client)


@contextmanager
def soft_limit(descriptors: int | None = None) -> Iterator[None]:
    """Set the soft limit of open files inside the block: to `descriptors`, or to the most permitted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if descriptors is None else descriptors, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def known_by(process: Process) -> str:
    """The value of `bootstrap` for a node that starts from this process."""
    return f"127.0.0.1:{process.ready['udp_port']}:{process.ready['dht_key']}"


def event_time(process: Process, event: str) -> float:
    """When a process first logged an event, in seconds since the epoch."""
    records = map(json.loads, process.log.read_text().splitlines())
    times = [record["time"] for record in records if record.get("event") == event]
    return datetime.fromisoformat(times[0]).timestamp()


def proc(process: Process, name: str) -> list[str]:
    """The lines of a file of a process in /proc; see proc(5)."""
    return Path(f"/proc/{process.pid}/{name}").read_text().splitlines()


async def told(process: Process, words: str) -> str:
    """Wait until `words` are in the last lines of the log. Returns that line."""
    async with asyncio.timeout(PATIENCE):
        while not (lines := [line for line in process.tail if words in line]):
            await asyncio.sleep(0.05)
    return lines[-1]


async def ask(address: Address, question: bytes) -> bytes:
    """Send `question`, half-close, and return the whole answer."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(question)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host, int(port)
