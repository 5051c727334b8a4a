"""A friend that fell silent is knocked at with a packet that was sent before."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import sys
from collections.abc import Iterator

import pytest

from tests.tox.pair import Catcher, Pair
from toxproxy.link.carrier import PACKET_ID
from toxproxy.system import echo
from toxproxy.system.echo import Echo
from toxproxy.tox import knock
from toxproxy.tox.knock import KNOCK, Knocks

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux hands back datagrams"),
]


class Node:
    """A node's socket, and what friends get from it. libtoxcore sends directly while `direct`."""

    def __init__(self, friends: int) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.friends = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(friends)]
        for friend in self.friends:
            friend.bind(("127.0.0.1", 0))
            friend.setblocking(False)
        self.direct = True
        self.sent = 0

    def send(self, friend: int, packet: bytes) -> None:
        assert packet == KNOCK
        self.sent += 1
        if self.direct:
            self.socket.sendto(b"\x1b%d" % self.sent, self.friends[friend].getsockname())

    def got(self, friend: int) -> list[bytes]:
        packets = []
        with contextlib.suppress(BlockingIOError):
            while True:
                packets.append(self.friends[friend].recv(99))
        return packets

    def close(self) -> None:
        for sock in (self.socket, *self.friends):
            sock.close()


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(3)
    yield node
    node.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as fast."""
    for name in ("_SILENT", "_PAUSE", "_PATIENCE", "_LATE"):
        monkeypatch.setattr(knock, name, getattr(knock, name) / 10)


def heard(knocks: Knocks, *friends: int) -> None:
    knocks.heard(friends, asyncio.get_running_loop().time())


async def test_the_last_packet_that_went_directly_is_sent_again_until_the_friend_is_heard(node: Node) -> None:
    knocks = Knocks(node.socket.fileno(), node.send)
    heard(knocks, 1)
    while not node.sent:
        await asyncio.sleep(0.01)
    node.direct = False
    last = node.got(1)[-1]
    while len(again := node.got(1)) < 1:
        await asyncio.sleep(0.3)
    assert set(again) == {last}
    heard(knocks, 1)
    await asyncio.sleep(0.05)
    node.got(1)
    await asyncio.sleep(0.2)
    assert node.got(1) == node.got(0) == []
    knocks.close()


async def test_a_friend_that_is_heard_is_not_knocked_at(node: Node) -> None:
    knocks = Knocks(node.socket.fileno(), node.send)
    for _ in range(60):
        heard(knocks, 0)
        await asyncio.sleep(0.01)
    assert node.sent == 0
    knocks.close()


async def test_what_went_directly_in_one_silence_is_not_sent_in_the_next(node: Node) -> None:
    """Its acknowledgement is older than those that the friend has had since: libtoxcore refuses it."""
    knocks = Knocks(node.socket.fileno(), node.send)
    heard(knocks, 0)
    while not node.sent:
        await asyncio.sleep(0.01)
    node.direct = False
    heard(knocks, 0)
    await asyncio.sleep(0.3)
    node.got(0)
    before = node.sent
    while node.sent < before + 3:
        await asyncio.sleep(0.01)
    assert node.got(0) == []
    knocks.close()


async def test_knocks_end_with_the_time_in_which_tox_waits_for_the_friend(node: Node) -> None:
    knocks = Knocks(node.socket.fileno(), node.send)
    heard(knocks, 0)
    await asyncio.sleep(3.6)
    end = node.sent
    assert 20 <= end <= 115
    await asyncio.sleep(0.2)
    assert node.sent == end
    assert len(node.got(0)) == end
    knocks.close()


async def test_a_late_copy_does_not_keep_the_socket_readable(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when the address of the next hop is known. The loop would turn as fast as it can."""
    monkeypatch.setattr(knock, "_LATE", 10.0)
    knocks = Knocks(node.socket.fileno(), node.send)
    poll = select.poll()
    poll.register(node.socket, select.POLLIN)
    heard(knocks, 0)
    for pause in (0.6, 3.2):  # in the silence, and after it
        await asyncio.sleep(pause)
        node.socket.setsockopt(socket.SOL_SOCKET, echo._OPTION, echo._AT_SCHEDULER)
        node.socket.sendto(b"late", node.friends[1].getsockname())
        node.socket.setsockopt(socket.SOL_SOCKET, echo._OPTION, 0)
        assert poll.poll(0)
        async with asyncio.timeout(5):
            while poll.poll(0):
                await asyncio.sleep(0.01)
    knocks.close()


async def test_many_silent_friends_get_few_knocks(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knock, "_AT_ONCE", 2)
    monkeypatch.setattr(knock, "_RATE", 1.0)
    knocks = Knocks(node.socket.fileno(), node.send)
    heard(knocks, 0, 1, 2)
    await asyncio.sleep(1.5)
    assert 2 <= node.sent <= 4
    knocks.close()


async def test_libtoxcore_takes_a_lossy_packet_that_comes_twice(direct: Pair) -> None:
    """This is what makes a knock work; and its friend does not see it as a datagram of a link."""
    catcher = Catcher(knocks=True)
    direct.server.set_sink(direct.client_number, catcher)
    descriptor = direct.client._udp
    assert descriptor is not None
    back = Echo(descriptor)
    (sent,) = back.sent_by(lambda: direct.client.send_lossy(direct.server_number, KNOCK))
    assert sent.port == direct.server.udp_port
    assert len(sent.payload) < 96
    back.send(sent)
    back.close()
    assert await catcher.until(2) == [KNOCK, KNOCK]
    assert bytes([PACKET_ID]) == KNOCK
    direct.server.set_sink(direct.client_number, None)
