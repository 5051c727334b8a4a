"""A client that was let in and then sends nonsense."""

from __future__ import annotations

import asyncio
import os
import random
import re
from pathlib import Path

import pytest

from tests.end.test_limits import says_hello
from tests.end.world import PATIENCE, Services, known_by
from toxproxy.address import ToxId
from toxproxy.admission.access import request_message
from toxproxy.config.parsing import parse
from toxproxy.demo import PrivateNetwork
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import MAX_PACKET, PACKET_ID, Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.mux import frames
from toxproxy.recovery import packet
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import ConnectionStatus, Node

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "5"))
IDS = (7, 0)
HELLO = frames.encode(frames.Hello(2, 2, IDS[0], frames.LZ4, 1 << 20, 100))
LENGTHS = (0, 1, 4, 8, 12, 16, 20, 24, 300)
TYPES = bytes((1, 2, 3, *range(0x10, 0x19)))


class Hostile:
    """Makes links, sends nonsense on them, and ignores what comes."""

    def __init__(self, node: Node, server: int, dice: random.Random) -> None:
        self.links = 0
        self._node = node
        self._server = server
        self._dice = dice
        self._link: EnetLink | None = None
        self._carrier = Carrier(node.lossy_sender(server), self._own, connecting=True)
        node.set_sink(server, self._carrier)

    async def talk(self, seconds: float) -> None:
        """Send nonsense on one link after another."""
        async with asyncio.timeout(seconds + PATIENCE):
            end = asyncio.get_running_loop().time() + seconds
            while asyncio.get_running_loop().time() < end:
                self._carrier.connect()
                await asyncio.sleep(self._dice.uniform(0.02, 0.2))
                junk = self._dice.randbytes(self._dice.randrange(1, MAX_PACKET))
                self._node.send_lossy(self._server, bytes((PACKET_ID,)) + junk[1:])

    async def close(self) -> None:
        """Close the link and leave."""
        await self._carrier.close()

    def _own(self, link: EnetLink) -> Hostile:
        self._link = link
        return self

    def link_up(self) -> None:
        self.links += 1
        assert self._link is not None
        if self._dice.random() < 0.8:
            head = packet.header(packet.INTRODUCTION, 1) + packet.ids(*IDS)
            self._link.send(head + HELLO)
        for number in range(2, self._dice.randrange(3, 50)):
            self._link.send(self._packet(number))
        self._link.flush()

    def _packet(self, number: int) -> bytes:
        """Mostly frames that are wrong, now and then a packet that is."""
        dice = self._dice
        flags, body = 0, b"".join(self._frame() for _ in range(dice.randrange(1, 4)))
        if dice.random() < 0.1:
            flags, number = dice.randrange(256), dice.randrange(1 << 24)
        elif dice.random() < 0.1:
            flags = packet.ACK
            body = dice.randbytes(12) + bytes((dice.randrange(80),)) + dice.randbytes(dice.randrange(300))
        return packet.header(flags, number) + body

    def _frame(self) -> bytes:
        kind = self._dice.choice(TYPES) if self._dice.random() < 0.9 else self._dice.randrange(256)
        return bytes((kind,)) + self._dice.randbytes(self._dice.choice(LENGTHS))

    def packet_received(self, packet: bytes) -> None:
        pass

    def link_ready(self) -> None:
        pass

    def link_down(self, reason: LinkEnd) -> None:
        self._link = None


class Meeting:
    """A node's owner that notices when the server is connected."""

    def __init__(self) -> None:
        self.met = asyncio.Event()

    def connection_changed(self, connection: ConnectionStatus) -> None:
        pass

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None:
        if connection is not ConnectionStatus.NONE:
            self.met.set()

    def friend_request(self, key: bytes, message: bytes) -> None:
        pass


def secret_of(network: PrivateNetwork) -> str:
    """The secret that lets clients into the server."""
    (secret,) = re.findall(r"secret = (\w+)", network.server.config.read_text())
    return str(secret)


@pytest.mark.timeout(SECONDS + 3 * PATIENCE)
async def test_a_peer_that_sends_nonsense_ends_its_own_sessions_and_no_other(
    network: PrivateNetwork, services: Services, tmp_path: Path
) -> None:
    text = f"[tox]\nbootstrap = {known_by(network.server)}\nlocal_discovery = no\nport = 23000-23999\n"
    meeting = Meeting()
    reader, writer = await asyncio.open_connection(*network.listener("echo"))
    async with Node(parse(text, "hostile").tox, StateFolder(tmp_path), "hostile", meeting) as node:
        server = ToxId(bytes.fromhex(network.server.ready["tox_id"]))
        hostile = Hostile(
            node, node.add_friend(server, request_message(secret_of(network))), random.Random(1)
        )
        async with asyncio.timeout(PATIENCE):
            await meeting.met.wait()
        talking = asyncio.create_task(hostile.talk(SECONDS))
        while not talking.done():
            await says_hello(network.listener("browser"), services.echo.port)
            await asyncio.sleep(0.1)
        await talking
        await hostile.close()
    assert hostile.links > SECONDS
    writer.write(b"the same connection as before")
    assert await reader.readexactly(29) == b"the same connection as before"
    writer.close()
    log = network.server.log.read_text()
    assert "the peer broke the protocol" in log
    assert "Traceback" not in log
