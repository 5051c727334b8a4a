"""Floods of datagrams: of a client that was let in, from forged addresses, and of a target's answers.

What waits stays bounded, flows that are used go on, and other streams and clients are served.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle

import pytest
import pytest_asyncio

from tests.asking import request
from tests.datagrams import Client, client, service
from tests.end.test_hostile_peer import secret_of
from tests.end.test_limits import says_hello
from tests.end.world import PATIENCE, Address, Services, known_by, proc
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import Process

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = float(os.environ.get("FLOOD_SECONDS", "4"))
LEAST = 12  # datagrams that are asked for beside a flood, however long that takes
SOURCES = int(os.environ.get("FLOOD_SOURCES", "100000"))  # forged addresses
STREAM = 5.0  # seconds until a stream answers, on a busy machine
GROWTH = 24  # MB: what waits is 1 MiB, and the sockets' buffers are the system's
_IP_PKTINFO = 8  # ip(7)
Flood = Callable[[threading.Event], None]  # goes on until the event is set
OTHER = """\
[tox]
bootstrap = {node}
local_discovery = no
port = 21000-21999
[access]
secret = {secret}
[client]
echo = 0:127.0.0.1:{echo}/udp:{server}
[socks]
browser = 0:{server}
"""


@dataclass
class Scene:
    network: PrivateNetwork
    other: Process  # another client of the same server
    tcp: int

    def address(self, name: str, of: Process | None = None) -> Address:
        """Of a listener of the client that floods, or of the other one."""
        listeners = (of or self.network.client).ready["listeners"]
        (found,) = (each["address"] for each in listeners if each["name"] == name)
        host, _, port = found.rpartition(":")
        return host, int(port)

    def memory(self) -> list[float]:
        """MB of the client that floods, and of the server."""
        lines = (proc(each, "status") for each in (self.network.client, self.network.server))
        return [int(line.split()[1]) / 1000 for one in lines for line in one if line.startswith("VmRSS")]

    async def flows(self) -> int:
        """How many the client has."""
        status = await request(self.network.client.config.parent / "client.state", "status")
        return sum(each["flows"] for each in status["peers"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(tmp_path_factory: pytest.TempPathFactory, services: Services) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("floods")
    async with AsyncExitStack() as stack:
        echo = await stack.enter_async_context(service())
        big = await stack.enter_async_context(service(lambda *_: bytes(65_000)))
        sink = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        sink.bind(("127.0.0.1", 0))  # nobody reads it
        ports = {"echo": echo.target.port, "big": big.target.port, "sink": sink.getsockname()[1]}
        forwards = "".join(f"{name} = 0:127.0.0.1:{port}/udp:TOXID\n" for name, port in ports.items())
        network = PrivateNetwork(
            folder,
            server="[access]\npermit = 127.0.0.1:*/tcp+udp\n",
            client=f"[client]\n{forwards}[socks]\nbrowser = 0:TOXID\n",
        )
        await stack.enter_async_context(network)
        (folder / "other").mkdir()
        other = Process("client", folder / "other")
        stack.push_async_callback(other.stop)
        await other.start(
            OTHER.format(
                node=known_by(network.server),
                secret=secret_of(network),
                echo=ports["echo"],
                server=network.server.ready["tox_id"],
            )
        )
        await asyncio.gather(network.connected(), other.wait_for("ready", PATIENCE))
        yield Scene(network, other, services.echo.port)


async def asked(near: Client, to: Address) -> bool:
    """Whether a datagram is answered."""
    near.send(b"abc", to)
    try:
        return await near.receive(1.0) == b"cba"
    except TimeoutError:
        return False


@asynccontextmanager
async def flooded(flood: Flood) -> AsyncIterator[None]:
    """Run `flood` in a thread for the time of the block."""
    over = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(flood, over))
    try:
        yield
    finally:
        over.set()
        await running


async def served(scene: Scene, flood: Flood, *, through: str) -> float:
    """The share of datagrams answered beside the flood, of both clients; streams must work.

    `through` names a forward to the echo service at the client that floods.
    """
    answered = []
    slowest = 0.0  # seconds until a new stream has answered
    before = scene.memory()
    most = before
    async with client() as near, client() as far:
        ways = [(near, scene.address(through)), (far, scene.address("echo", scene.other))]
        for each, to in ways:
            assert await asked(each, to)
        sources = [near.address]
        async with flooded(flood):
            end = time.monotonic() + SECONDS
            while time.monotonic() < end or len(answered) < LEAST:
                answered += [await asked(each, to) for each, to in ways]
                for proxy in (scene.address("browser"), scene.address("browser", scene.other)):
                    begun = time.monotonic()
                    async with asyncio.timeout(PATIENCE):
                        await says_hello(proxy, scene.tcp)
                    slowest = max(slowest, time.monotonic() - begun)
                most = list(map(max, most, scene.memory()))
        assert near.address == sources[0]
    print(f"{sum(answered)} of {len(answered)} datagrams answered, the slowest stream after {slowest:.2f} s")
    print(f"MB {before} before, {most} at most")
    assert slowest < STREAM
    assert all(now - then < GROWTH for now, then in zip(most, before, strict=True)), (before, most)
    return sum(answered) / len(answered)


async def test_a_client_that_sends_as_fast_as_it_can_takes_nothing_from_others(scene: Scene) -> None:
    to, data = scene.address("sink"), bytes(1200)

    def flood(over: threading.Event) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.is_set():
                for _ in range(100):
                    sock.sendto(data, to)

    assert await served(scene, flood, through="echo") > 0.8


async def test_a_target_that_answers_each_byte_with_64_kib(scene: Scene) -> None:
    to = scene.address("big")

    def flood(over: threading.Event) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            while not over.is_set():
                sock.sendto(b"x", to)
                time.sleep(0.0005)

    assert await served(scene, flood, through="echo") > 0.8


def forged() -> Iterator[bytes]:
    """Addresses of 127.0.0.0/8, each as IP_PKTINFO names the source of a datagram."""
    first = int(ipaddress.ip_address("127.16.0.1"))
    for number in range(SOURCES):
        yield struct.pack("=i4s4s", 0, (first + number).to_bytes(4), bytes(4))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs IP_PKTINFO and 127.0.0.0/8")
async def test_a_flood_from_forged_addresses_ends_no_flow_that_is_used(scene: Scene) -> None:
    to = scene.address("echo")

    def flood(over: threading.Event) -> None:
        names = cycle((b"a", b"b"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("0.0.0.0", 0))
            for source in cycle(forged()):
                if over.is_set():
                    return
                sock.sendmsg((next(names),), ((socket.IPPROTO_IP, _IP_PKTINFO, source),), 0, to)

    share = await served(scene, flood, through="echo")
    flows = await scene.flows()
    print(f"{flows} flows")
    assert 100 < flows <= 1024
    assert share > 0.6  # half of them are the other client's, which is not flooded
