"""Two nodes that are friends, on a private Tox network: loopback, no discovery, no public nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.ports import unused_port
from toxproxy.config.settings import BootstrapNode, ToxSettings
from toxproxy.system.state import StateFolder
from toxproxy.tox.knock import KNOCK
from toxproxy.tox.node import ConnectionStatus, Node

PRIVATE = ToxSettings(bootstrap=(), ports=(41000, 41999), local_discovery=False)
WORDS = (b"toxproxy",)
PATIENCE = 60  # seconds; libtoxcore needs about ten to connect two friends


@dataclass
class Diary:
    """A node's owner that records what it is told. A test can wait for it."""

    connections: list[ConnectionStatus] = field(default_factory=list)
    friends: list[tuple[int, ConnectionStatus]] = field(default_factory=list)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_changed(self, connection: ConnectionStatus) -> None:
        self.connections.append(connection)
        self.written.set()

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None:
        self.friends.append((friend, connection))
        self.written.set()

    def friend_request(self, key: bytes, message: bytes) -> None:
        self.requests.append((key, message))
        self.written.set()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not happened():
                await self.written.wait()
                self.written.clear()


@dataclass
class Pair:
    """A connected server and client. Each has a friend number for the other."""

    server: Node
    client: Node
    server_diary: Diary
    client_diary: Diary
    client_number: int  # the client's friend number at the server
    server_number: int  # the server's friend number at the client
    relay: Node | None = None  # through which they are connected, if they are not directly


def bootstrapping_from(node: Node, settings: ToxSettings = PRIVATE) -> ToxSettings:
    """The settings of a node that starts from `node`."""
    assert node.udp_port is not None
    return replace(settings, bootstrap=(BootstrapNode("127.0.0.1", node.udp_port, node.dht_key),))


@asynccontextmanager
async def private_pair(folder: Path, words: Sequence[bytes] = WORDS) -> AsyncIterator[Pair]:
    """A pair on a new private network, with its state in `folder`. It takes about ten seconds.

    The client sends friend requests with each of `words` in turn. It is let in after the last.
    """
    diary = Diary()
    async with (
        Node(PRIVATE, StateFolder(folder / "server"), "server", diary) as server,
        befriended(server, diary, bootstrapping_from(server), folder / "client", words) as pair,
    ):
        yield pair


@asynccontextmanager
async def relayed_pair(folder: Path) -> AsyncIterator[Pair]:
    """As `private_pair`, but without UDP: through a third node that is a TCP relay.

    Without UDP a node's UDP and TCP port must have the same number, as those of tox-bootstrapd.
    """
    port = unused_port()
    alone = replace(PRIVATE, ports=(port, port), tcp_relay=port)
    async with Node(alone, StateFolder(folder / "relay"), "relay", Diary()) as relay:
        settings, diary = replace(bootstrapping_from(relay), udp=False), Diary()
        async with (
            Node(settings, StateFolder(folder / "server"), "server", diary) as server,
            befriended(server, diary, settings, folder / "client", WORDS) as pair,
        ):
            yield replace(pair, relay=relay)


@asynccontextmanager
async def befriended(
    server: Node, server_diary: Diary, settings: ToxSettings, folder: Path, words: Sequence[bytes]
) -> AsyncIterator[Pair]:
    """A client of a running server. Yields when they are connected."""
    client_diary = Diary()
    async with Node(settings, StateFolder(folder), "client", client_diary) as client:
        for word in words:
            server_number = client.add_friend(server.tox_id, word)
            await server_diary.until(lambda: (client.public_key, word) in server_diary.requests)  # noqa: B023
        client_number = server.admit_friend(client.public_key)
        await server_diary.until(lambda: server.friend_connection(client_number) is not ConnectionStatus.NONE)
        await client_diary.until(lambda: client.friend_connection(server_number) is not ConnectionStatus.NONE)
        yield Pair(server, client, server_diary, client_diary, client_number, server_number)


class Catcher:
    """A sink that keeps copies of packets. A test can wait for them.

    `knocks`: those count, too, that a node sends by itself when nothing came for a while.
    """

    def __init__(self, *, knocks: bool = False) -> None:
        self._ignored = b"" if knocks else KNOCK
        self.packets: list[bytes] = []
        self.batches: list[int] = []  # the number of packets at the end of each batch
        self._ended = asyncio.Event()

    def packet_received(self, packet: Any) -> None:
        if packet[:] != self._ignored:
            self.packets.append(packet[:])

    def batch_ended(self) -> None:
        self.batches.append(len(self.packets))
        self._ended.set()

    async def until(self, count: int) -> list[bytes]:
        async with asyncio.timeout(PATIENCE):
            while len(self.packets) < count:
                self._ended.clear()
                await self._ended.wait()
        return self.packets
