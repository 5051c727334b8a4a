"""Bootstrap: which nodes are asked, and when."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.machine import Hosts, has_ipv6
from tests.tox.pair import PRIVATE
from toxproxy.config.settings import BootstrapNode, TransportProxy
from toxproxy.system.resolver import Resolver
from toxproxy.tox.bootstrap import Bootstrap, Introducer, introducers, is_local, public_nodes
from toxproxy.tox.pytox import Tox, ToxError, ToxOptions

KEY = bytes(range(32))
NODES_REQUEST = 0x02  # the DHT's packet kind (Tox protocol, "DHT Packet")


def test_the_built_in_list_is_valid() -> None:
    nodes = public_nodes()
    assert len({node.key for node in nodes}) == len(nodes) >= 12
    for node in nodes:
        assert len(node.key) == 32
        assert all(0 < port < 65536 for port in (node.port, *node.tcp_ports))
    assert any(443 in node.tcp_ports for node in nodes)


def test_without_a_configuration_the_built_in_list_is_used() -> None:
    assert introducers(replace(PRIVATE, bootstrap=None)) == public_nodes()


def test_behind_a_proxy_no_built_in_name_is_looked_up() -> None:
    proxy = TransportProxy("socks5", "127.0.0.1", 9050)
    nodes = introducers(replace(PRIVATE, bootstrap=None, proxy=proxy))
    assert nodes
    for node in nodes:
        ipaddress.ip_address(node.host)


def test_configured_nodes_replace_the_built_in_ones() -> None:
    settings = replace(PRIVATE, bootstrap=(BootstrapNode("tox.example.org", 33445, KEY),))
    assert introducers(settings) == (Introducer("tox.example.org", 33445, KEY, (33445,)),)


def test_none_means_no_nodes() -> None:
    assert introducers(replace(PRIVATE, bootstrap=())) == ()


@pytest.fixture
def tox() -> Iterator[Tox]:
    tox = Tox(ToxOptions(ipv6_enabled=False, local_discovery_enabled=False, start_port=40800, end_port=40899))
    yield tox
    tox.kill()


async def test_a_bootstrap_node_named_by_host_is_asked_over_udp_and_tcp(tox: Tox, hosts: Hosts) -> None:
    hosts["introducer.test"] = ["127.0.0.1"]
    connected = asyncio.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        port = udp.getsockname()[1]
        async with await asyncio.start_server(lambda *_: connected.set(), "127.0.0.1", port):
            bootstrap = Bootstrap(
                tox, [Introducer("introducer.test", port, KEY, (port,))], Resolver(), ipv6=False
            )
            task = asyncio.create_task(bootstrap.run())
            request = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(udp, 2000), 20)
            assert request[0] == NODES_REQUEST
            async with asyncio.timeout(20):
                while not connected.is_set():
                    tox.iterate()
                    await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])


async def test_a_bootstrap_node_without_an_address_does_not_stop_the_others(tox: Tox) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        nodes = [Introducer("::1", 9, KEY, ()), Introducer("127.0.0.1", udp.getsockname()[1], KEY, ())]
        task = asyncio.create_task(Bootstrap(tox, nodes, Resolver(), ipv6=False).run())
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(udp, 2000), 20)
        task.cancel()
        await asyncio.wait([task])


async def test_bootstrap_nodes_are_asked_again_only_while_offline(tox: Tox) -> None:
    asked: list[str] = []

    class Counting(Tox):
        def bootstrap(self, address: str, port: int, public_key: str) -> bool:
            asked.append(address)
            again.set()
            return super().bootstrap(address, port, public_key)

    again = asyncio.Event()
    counting = Counting(ToxOptions(udp_enabled=False))
    bootstrap = Bootstrap(counting, [Introducer("127.0.0.1", 9, KEY, ())], Resolver(), ipv6=False)
    task = asyncio.create_task(bootstrap.run())
    async with asyncio.timeout(20):
        while len(asked) < 2:
            again.clear()
            await again.wait()
    bootstrap.connection_changed(online=True)
    await asyncio.sleep(0)
    count = len(asked)
    bootstrap.connection_changed(online=True)
    await asyncio.sleep(0)
    assert len(asked) == count
    bootstrap.connection_changed(online=False)
    again.clear()
    await asyncio.wait_for(again.wait(), 20)
    task.cancel()
    await asyncio.wait([task])
    counting.kill()


@contextmanager
def no_more_threads() -> Iterator[None]:
    """No thread can be started inside the block: its stack does not fit into memory."""
    before = threading.stack_size(1 << 46)
    try:
        yield
    finally:
        threading.stack_size(before)


async def test_bootstrap_nodes_are_asked_again_if_no_thread_was_free_for_the_look_up(
    tox: Tox, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        nodes = [Introducer("127.0.0.1", udp.getsockname()[1], KEY, ())]
        with no_more_threads():
            task = asyncio.create_task(Bootstrap(tox, nodes, Resolver(), ipv6=False).run())
            async with asyncio.timeout(20):
                while "can't start new thread" not in caplog.text:
                    await asyncio.sleep(0.01)
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(udp, 2000), 20)
        task.cancel()
        await asyncio.wait([task])


async def test_an_error_with_one_bootstrap_node_does_not_stop_the_others(tox: Tox) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        port = udp.getsockname()[1]
        bad, good = Introducer("127.0.0.1", 0, KEY[:5], ()), Introducer("127.0.0.1", port, KEY, ())
        task = asyncio.create_task(Bootstrap(tox, [bad, good], Resolver(), ipv6=False).run())
        assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(udp, 2000), 20)
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("10.255.0.1", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("169.254.7.7", True),
        ("100.64.0.1", True),
        ("100.128.0.1", False),
        ("198.18.0.1", False),
        ("::1", True),
        ("fe80::1", True),
        ("fd00::1", False),
        ("2001:db8::1", False),
    ],
)
def test_what_libtoxcore_takes_for_a_local_address(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_a_node_that_no_udp_packet_can_be_sent_to_is_still_asked_as_a_relay(tox: Tox) -> None:
    """libtoxcore's socket is IPv4 and cannot send there; a firewall on this machine does the same."""
    connected = asyncio.Event()
    with pytest.raises(ToxError):
        tox.bootstrap("::1", 9, KEY.hex())
    async with await asyncio.start_server(lambda *_: connected.set(), "::1", 0) as relay:
        port = relay.sockets[0].getsockname()[1]
        bootstrap = Bootstrap(tox, [Introducer("::1", port, KEY, (port,))], Resolver(), ipv6=True)
        task = asyncio.create_task(bootstrap.run())
        async with asyncio.timeout(20):
            while not connected.is_set():
                tox.iterate()
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])


class Counting(Tox):
    """Counts how often it is told of a TCP relay."""

    def __init__(self) -> None:
        super().__init__(ToxOptions(udp_enabled=False, ipv6_enabled=False))
        self.told = 0
        self.again = asyncio.Event()

    def add_tcp_relay(self, address: str, port: int, public_key: str) -> bool:
        self.told += 1
        self.again.set()
        return True

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.told < count:
                self.again.clear()
                await self.again.wait()


async def test_a_node_that_is_online_without_a_relay_is_told_of_one_again() -> None:
    tox = Counting()
    bootstrap = Bootstrap(tox, [Introducer("127.0.0.1", 9, KEY, (9,))], Resolver(), ipv6=False)
    task = asyncio.create_task(bootstrap.run())
    bootstrap.connection_changed(online=True)
    await tox.until(0)
    before = tox.told
    bootstrap.relays_changed(frozenset())  # libtoxcore has given it up
    await tox.until(before + 2)
    bootstrap.relays_changed(frozenset({("127.0.0.1", 9)}))
    await asyncio.sleep(0.1)
    before = tox.told
    bootstrap.relays_changed(frozenset({("127.0.0.1", 10)}))
    bootstrap.relays_changed(None)
    await asyncio.sleep(0.1)
    assert tox.told == before
    task.cancel()
    await asyncio.wait([task])
    tox.kill()


async def test_that_nothing_changed_does_not_hasten_the_next_try() -> None:
    tox = Counting()
    bootstrap = Bootstrap(tox, [Introducer("127.0.0.1", 9, KEY, (9,))], Resolver(), ipv6=False)
    task = asyncio.create_task(bootstrap.run())
    await tox.until(1)
    for _ in range(20):
        bootstrap.connection_changed(online=False)
        bootstrap.relays_changed(None)
        await asyncio.sleep(0.005)
    assert tox.told == 1
    task.cancel()
    await asyncio.wait([task])
    tox.kill()


async def test_it_ends_also_when_it_is_cancelled_at_the_moment_that_the_network_is_found(tox: Tox) -> None:
    bootstrap = Bootstrap(tox, (), Resolver(), ipv6=False)
    running = asyncio.create_task(bootstrap.run())
    await asyncio.sleep(0.05)
    bootstrap.connection_changed(True)
    await asyncio.sleep(0)  # what waited for the change is done, and `run` has not gone on yet
    running.cancel()
    await asyncio.wait([running], timeout=5)
    assert running.cancelled()
