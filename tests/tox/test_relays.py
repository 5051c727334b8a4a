"""Relays of the user's own: which are chosen, and that a friend is still reached when one of them dies."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ports import unused_port
from tests.tox.pair import PRIVATE, WORDS, Catcher, Diary, befriended
from toxproxy.config.settings import BootstrapNode
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node
from toxproxy.tox.relays import Peer, Relays, choose

KEY = bytes(range(32))
A, B, C = ("192.0.2.1", 1), ("192.0.2.2", 2), ("192.0.2.3", 3)


def test_the_quickest_relay_is_chosen_and_another_that_is_about_as_quick() -> None:
    assert choose({A: 0.09, B: 0.05, C: 0.06}) == [B, C]
    assert choose({A: 0.02, B: 0.2}) == [A]
    assert choose({A: 0.001, B: 0.03}) == [A, B]
    assert choose({}) == []


class _Told:
    """Stands where libtoxcore is: writes down of which relays it is told."""

    def __init__(self) -> None:
        self.relays: list[tuple[str, int, str]] = []
        self.others = 0
        self.written = asyncio.Event()

    def add_tcp_relay(self, address: str, port: int, key: str) -> bool:
        self.relays.append((address, port, key))
        self.written.set()
        return True

    async def use_others(self) -> None:
        self.others += 1
        self.written.set()

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not happened():
                await self.written.wait()
                self.written.clear()


@asynccontextmanager
async def choosing(told: _Told, *ports: int, measures: bool = True) -> AsyncIterator[Relays]:
    async def resolve(host: str) -> list[str]:
        return [host]

    nodes = [BootstrapNode("127.0.0.1", port, KEY) for port in ports]
    relays = Relays(told, nodes, resolve, told.use_others, measures=measures)  # type: ignore[arg-type]
    task = asyncio.create_task(relays.run())
    try:
        yield relays
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_only_relays_that_answer_are_used() -> None:
    told, dead = _Told(), unused_port()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        port = relay.getsockname()[1]
        async with choosing(told, dead, port):
            await told.until(lambda: bool(told.relays))
    assert told.relays == [("127.0.0.1", port, KEY.hex())]
    assert told.others == 0


async def test_a_relay_that_is_lost_is_added_again_and_one_that_stays_is_left_alone() -> None:
    told = _Told()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        peer: Peer = ("127.0.0.1", relay.getsockname()[1])
        async with choosing(told, peer[1]) as relays:
            await told.until(lambda: len(told.relays) == 1)
            relays.connected(frozenset({peer}))
            await asyncio.sleep(0)
            relays.connected(frozenset({peer, A}))
            await asyncio.sleep(0.1)
            assert len(told.relays) == 1
            relays.connected(frozenset({A}))
            await told.until(lambda: len(told.relays) == 2)


async def test_where_none_answers_the_networks_relays_are_used() -> None:
    told = _Told()
    async with choosing(told, unused_port()) as relays:
        await told.until(lambda: told.others == 1)
        relays.connected(frozenset({A}))  # one of the network's
        await asyncio.sleep(2)
    assert told.others == 1
    assert told.relays == []


async def test_behind_a_proxy_all_relays_are_used_and_none_is_connected_to_past_it() -> None:
    told = _Told()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        relay.setblocking(False)
        ports = relay.getsockname()[1], unused_port()
        async with choosing(told, *ports, measures=False):
            await told.until(lambda: len(told.relays) >= 2)
        with pytest.raises(BlockingIOError):
            relay.accept()
    assert {port for _, port, _ in told.relays} == set(ports)


def close_accepted(port: int) -> None:
    """Close what a relay had accepted, as the end of its process would. libtoxcore leaves these open."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            sock = socket.socket(fileno=int(name))
            stream = sock.type == socket.SOCK_STREAM and sock.family in (socket.AF_INET, socket.AF_INET6)
            if not stream or sock.getsockname()[1] != port:
                sock.detach()
            sock.close()  # nothing, once it is detached


@pytest.mark.parametrize("first", [0, 1])
async def test_a_friend_is_reached_through_one_relay_when_the_other_dies(tmp_path: Path, first: int) -> None:
    async with AsyncExitStack() as stack:
        nodes: list[Node] = []
        for number in range(2):
            port = unused_port()
            known = tuple(BootstrapNode("127.0.0.1", node.udp_port or 0, node.dht_key) for node in nodes)
            settings = replace(PRIVATE, ports=(port, port), tcp_relay=port, bootstrap=known)
            state = StateFolder(tmp_path / f"relay-{number}")
            nodes.append(await stack.enter_async_context(Node(settings, state, "relay", Diary())))
        relays = tuple(BootstrapNode("127.0.0.1", node.tcp_port or 0, node.dht_key) for node in nodes)
        ends = replace(PRIVATE, bootstrap=(relays[0],), relays=relays, udp=False)
        diary, catcher = Diary(), Catcher()
        server = await stack.enter_async_context(Node(ends, StateFolder(tmp_path / "s"), "server", diary))
        pair = await stack.enter_async_context(befriended(server, diary, ends, tmp_path / "c", WORDS))
        server.set_sink(pair.client_number, catcher)
        await asyncio.sleep(3)  # until each has told the other of its relays
        await nodes[first].close()
        close_accepted(relays[first].port)
        async with asyncio.timeout(10):  # libtoxcore alone gives up the friend, and takes 40 s
            while not catcher.packets:
                pair.client.send_lossy(pair.server_number, bytes([200]))
                await asyncio.sleep(0.02)
