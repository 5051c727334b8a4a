"""A client that was let in and whose ENet lies: it learns nothing, and nothing of it stays."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fuzz import datagrams as dg
from fuzz.behind import any_datagram
from fuzz.choices import Choices
from fuzz.packets import Packet, any_packet
from tests.asking import request
from tests.end.test_hostile_peer import SECONDS, Meeting, secret_of
from tests.end.test_limits import says_hello
from tests.end.world import PATIENCE, Services, known_by, proc
from toxproxy.address import ToxId
from toxproxy.admission.access import request_message
from toxproxy.config.parsing import parse
from toxproxy.demo import PrivateNetwork
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import PACKET_ID, Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.link.filter import PACKET_SIZE
from toxproxy.mux import frames
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node

if TYPE_CHECKING:
    from typing_extensions import Buffer

pytestmark = pytest.mark.asyncio(loop_scope="session")

COOKIE = b"Xq7-mR2w_kZ9.vT4+bN8~hL3*yD6!cF5"  # no word that a frame might say
HELLO = frames.Hello(2, 2, 7, 0, 1 << 20, 100)
ROOM = 8 * 1024 * 1024  # bytes: what may stay …
MOST = 4 * ROOM  # … and what an attack may take
PING = 0x02  # a type of frames
WIDTH = 8  # bytes of a secret that are enough to know it by; a PONG has no more


class Needles:
    """Looks for secrets in what somebody gets."""

    def __init__(self, **secrets: bytes) -> None:
        self.found: set[tuple[object, str]] = set()  # where from, and which
        self.searched = 0
        self._pieces = {
            secret[at : at + WIDTH]: name
            for name, secret in secrets.items()
            for at in range(len(secret) - WIDTH + 1)
        }
        self._ends: dict[object, bytes] = {}

    @property
    def sources(self) -> set[object]:
        """Where something came from."""
        return set(self._ends)

    def search(self, source: object, data: bytes) -> None:
        """Look for pieces of a secret in this, and where it joins what came before."""
        whole = self._ends.get(source, b"") + data
        self._ends[source] = whole[-WIDTH:]
        self.searched += len(data)
        self.found |= {(source, name) for piece, name in self._pieces.items() if piece in whole}


class _Ear:
    """Searches what comes through Tox, and passes it on."""

    def __init__(self, carrier: Carrier, needles: Needles) -> None:
        self._carrier, self._needles = carrier, needles

    def packet_received(self, packet: Buffer) -> None:
        self._needles.search("datagrams", bytes(packet))
        self._carrier.packet_received(packet)

    def batch_ended(self) -> None:
        self._carrier.batch_ended()


class Attacker:
    """Has links with the server, and streams on them to a target of its own; sends whatever it likes."""

    def __init__(self, node: Node, server: int, target: int, needles: Needles, dice: random.Random) -> None:
        self.links = self.lies = 0
        self._number = 1  # of the next packet
        self._node, self._server, self._target = node, server, target
        self._needles, self._dice = needles, dice
        self._up = asyncio.Event()
        self._carrier = Carrier(node.lossy_sender(server), self._own, connecting=True)
        node.set_sink(server, _Ear(self._carrier, needles))

    async def attack(self, seconds: float) -> None:
        """Link after link."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        ways = (self._arbitrary, self._packets, self._fragments, self._falling, self._connects, self._small)
        number = 0
        while loop.time() < end:
            self._up.clear()
            self._carrier.connect()
            try:
                async with asyncio.timeout(3):
                    await self._up.wait()
            except TimeoutError:
                continue  # it had too many links just now
            self._speak()
            await asyncio.sleep(0.1)
            await ways[number % len(ways)]()
            number += 1

    async def close(self) -> None:
        """Leave."""
        await self._carrier.close()

    # What it says

    def _speak(self) -> None:
        """Begin its session, or go on with it, and have a stream to its target."""
        link = self._carrier.link
        if link is None or link.freed.is_set():
            return
        opened = frames.Open(1, frames.TCP, 1 << 20, self._target, "127.0.0.1")
        said: list[frames.Frame] = [HELLO, opened]
        for number in range(20):
            said += (frames.Data(1, 40 * number, bytes(40)), frames.Credit(1, 0, number))
        for frame in said:
            there = Packet(self._number, ids=(HELLO.session, 0), frames=frames.encode(frame))
            self._number += 1
            link.send(there.written())
        link.flush()

    async def _forge(self, *datagrams: bytes) -> None:
        for number, datagram in enumerate(datagrams):
            self.lies += 1
            packet = bytes((PACKET_ID, self._carrier._epoch)) + datagram
            while not self._node.send_lossy(self._server, packet):
                await asyncio.sleep(0.01)
            if number % 16 == 15:
                await asyncio.sleep(0.002)

    async def _arbitrary(self) -> None:
        for _ in range(20):
            link = self._carrier.link
            if link is None or link._peer is None:
                return
            choices, group = Choices(self._dice.randbytes(20_000)), link._peer.outgoingUnsequencedGroup
            await self._forge(*(any_datagram(choices, group)[: dg.MTU] for _ in range(30)))

    async def _packets(self) -> None:
        """Packets as the session takes them, or nearly."""
        choices = Choices(self._dice.randbytes(20_000))
        for _ in range(200):
            link = self._carrier.link
            if link is None or link.freed.is_set():
                return
            if packet := any_packet(choices, self._number, self._number)[:PACKET_SIZE]:
                link.send(packet)
                link.flush()
            self._number += 1
            await asyncio.sleep(0.001)

    async def _fragments(self) -> None:
        """That declare a million parts, or are the first of many large frames."""
        for at in range(0, 5600, 56):
            parts = (dg.fragment(0, 2 + at + n, 0, 1 << 20, 1, b"") for n in range(56))
            first = dg.fragments(self._dice.randrange(255), 2 + at // 4, bytes(16384))[0]
            short = dg.fragment(0, 2 + at, 0, 1, 9000, bytes((PING,)))  # declares more than it brings
            await self._forge(dg.timed(*parts), dg.timed(first), dg.timed(short))

    async def _falling(self) -> None:
        for channel in (0, 1):
            numbers = range(3000, 1, -1)
            for at in range(0, len(numbers), 32):
                await self._forge(
                    dg.timed(*(dg.reliable(channel, n, b"x") for n in numbers[at : at + 32])),
                    dg.timed(*(dg.reliable(channel, n, b"") for n in numbers[at : at + 200])),
                )

    async def _connects(self) -> None:
        for _ in range(300):
            packet = bytes((PACKET_ID, self._dice.randrange(256))) + dg.connect(self._dice.randrange(1 << 32))
            self._node.send_lossy(self._server, packet)
            await asyncio.sleep(0.001)

    async def _small(self) -> None:
        """Pings and acknowledgements, as many as fit."""
        for at in range(0, 10_000, 32):
            await self._forge(
                dg.timed(*(dg.ping(at + n & 0xFFFF) for n in range(16))),
                dg.untimed(*(dg.ack(0xFF, at + n) for n in range(32))),
            )

    # What it hears

    def _own(self, link: EnetLink) -> Attacker:
        return self

    def link_up(self) -> None:
        self.links += 1
        self._up.set()

    def packet_received(self, packet: bytes) -> None:
        self._needles.search("packets", packet)

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd) -> None: ...


def resident(network: PrivateNetwork, which: str = "VmRSS") -> int:
    """Bytes of the server's process in memory; with `VmHWM` the most there were."""
    (line,) = (line for line in proc(network.server, "status") if line.startswith(f"{which}:"))
    return int(line.split()[1]) * 1024


def forget_the_most(network: PrivateNetwork) -> None:
    """Have VmHWM begin anew; see proc(5)."""
    Path(f"/proc/{network.server.pid}/clear_refs").write_text("5")


def secret_key(network: PrivateNetwork, folder: Path) -> bytes:
    """The server's, which follows its public key in what libtoxcore saves."""
    saved = (folder / "identity.tox").read_bytes()
    public = bytes.fromhex(network.server.ready["public_key"])
    at = saved.index(public) + len(public)
    return saved[at : at + 32]


async def somebody_else(network: PrivateNetwork, said: asyncio.Event) -> None:
    """A client whose requests pass through the same process."""
    reader, writer = await asyncio.open_connection(*network.listener("echo"))
    number = 0
    while True:
        number += 1
        line = COOKIE + b"%08d" % number + random.randbytes(600) + b"\r\n"  # nothing that LZ4 would shorten
        writer.write(line)
        assert await reader.readexactly(len(line)) == line
        said.set()
        await asyncio.sleep(0.02)


@pytest.mark.timeout(SECONDS + 4 * PATIENCE)
async def test_a_peer_whose_enet_lies_learns_nothing_and_costs_nothing_that_stays(
    network: PrivateNetwork, services: Services, tmp_path: Path
) -> None:
    state = network.server.config.with_suffix(".state")
    needles = Needles(key=secret_key(network, state), cookie=COOKIE)
    text = f"[tox]\nbootstrap = {known_by(network.server)}\nlocal_discovery = no\nport = 23000-23999\n"
    dice, meeting, said = random.Random(2), Meeting(), asyncio.Event()

    connections: list[asyncio.StreamWriter] = []

    async def target(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                needles.search("the stream", data)
        writer.close()

    bystander = asyncio.create_task(somebody_else(network, said))
    await said.wait()
    async with (
        await asyncio.start_server(target, "127.0.0.1", 0) as sink,
        Node(parse(text, "hostile").tox, StateFolder(tmp_path), "hostile", meeting) as node,
    ):
        server = node.add_friend(
            ToxId(bytes.fromhex(network.server.ready["tox_id"])), request_message(secret_of(network))
        )
        attacker = Attacker(node, server, sink.sockets[0].getsockname()[1], needles, dice)
        async with asyncio.timeout(PATIENCE):
            await meeting.met.wait()
        before, served = resident(network), 0
        forget_the_most(network)
        attacking = asyncio.create_task(attacker.attack(SECONDS))
        while not attacking.done():
            await says_hello(network.listener("browser"), services.echo.port)
            if served % 20 == 0:  # the identity is saved anew, which leaves copies of it in memory
                await request(state, "allow", key=(dice.randbytes(31) + b"\1").hex())
            served += 1
            await asyncio.wait((attacking,), timeout=0.5)
        await attacking
        await attacker.close()
        for writer in connections:  # the server keeps them for the attacker to come back
            writer.transport.abort()
    assert not bystander.done()
    bystander.cancel()
    await asyncio.wait((bystander,))
    assert attacker.links > SECONDS / 4
    assert {"datagrams", "packets", "the stream"} <= needles.sources
    async with asyncio.timeout(PATIENCE):
        while resident(network) > before + ROOM:
            await asyncio.sleep(0.5)
    most = resident(network, "VmHWM")
    print(f"{attacker.links} links, {attacker.lies} lies, {needles.searched} bytes searched; {served} served")
    print(f"the server's memory in bytes: {before} before, {most} at most, {resident(network)} after")
    assert not needles.found
    assert most < before + MOST
    assert "Traceback" not in network.server.log.read_text()
