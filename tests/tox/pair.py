"""Two nodes that are friends, on a private network of their own: loopback, no discovery, no public nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from toxproxy.config import BootstrapNode, ToxSettings
from toxproxy.state import StateFolder
from toxproxy.tox.node import Connection, Node

PRIVATE = ToxSettings(bootstrap=(), ports=(41000, 41999), local_discovery=False)
PATIENCE = 60  # seconds; libtoxcore takes about ten to connect two friends


@dataclass
class Diary:
    """What a node told its owner, and a way to wait for it."""

    connections: list[Connection] = field(default_factory=list)
    friends: list[tuple[int, Connection]] = field(default_factory=list)
    requests: list[tuple[bytes, bytes]] = field(default_factory=list)
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def connection_changed(self, connection: Connection) -> None:
        self.connections.append(connection)
        self.written.set()

    def friend_connection_changed(self, friend: int, connection: Connection) -> None:
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
    """A server and a client that are connected; each calls the other by a friend number."""

    server: Node
    client: Node
    server_diary: Diary
    client_diary: Diary
    client_number: int  # the server's for the client
    server_number: int  # the client's for the server


def bootstrapping_from(node: Node, settings: ToxSettings = PRIVATE) -> ToxSettings:
    """The settings of a node that enters the network through `node`."""
    port = node.udp_port or node.tcp_port
    assert port is not None
    return replace(settings, bootstrap=(BootstrapNode("127.0.0.1", port, node.dht_key),))


@asynccontextmanager
async def private_pair(folder: Path, message: bytes = b"toxproxy") -> AsyncIterator[Pair]:
    """A pair on a new private network, its state under `folder`. Takes about ten seconds to make."""
    server_diary, client_diary = Diary(), Diary()
    async with Node(PRIVATE, StateFolder(folder / "server"), "server", server_diary) as server:
        settings = bootstrapping_from(server)
        async with Node(settings, StateFolder(folder / "client"), "client", client_diary) as client:
            server_number = client.add_friend(server.tox_id, message)
            await server_diary.until(lambda: bool(server_diary.requests))
            client_number = server.admit_friend(client.public_key)
            await server_diary.until(lambda: (client_number, Connection.UDP) in server_diary.friends)
            await client_diary.until(lambda: (server_number, Connection.UDP) in client_diary.friends)
            yield Pair(server, client, server_diary, client_diary, client_number, server_number)
