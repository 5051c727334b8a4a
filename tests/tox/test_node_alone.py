"""A single node: its identity, its friends, errors at its start, its end."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import Hosts
from tests.ports import unused_port
from tests.tox.pair import PRIVATE, Diary
from toxproxy.address import ToxId
from toxproxy.config.settings import BootstrapNode, ToxSettings, TransportProxy
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.system.state import StateFolder
from toxproxy.tox.identity import IDENTITY
from toxproxy.tox.known_nodes import KnownNode, KnownNodes, kept_port
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tox.pytox import Tox, ToxOptions

KEY = bytes(range(32))


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def stranger() -> ToxId:
    tox = Tox(ToxOptions(udp_enabled=False, local_discovery_enabled=False))
    address = ToxId(bytes.fromhex(tox.self_get_address()))
    tox.kill()
    return address


def node(state: StateFolder, settings: ToxSettings = PRIVATE) -> Node:
    return Node(settings, state, "a node", Diary())


async def test_a_restarted_node_has_the_same_id_and_another_dht_key(state: StateFolder) -> None:
    async with node(state) as first:
        assert first.connection is ConnectionStatus.NONE
        assert stat.S_IMODE((state.path / IDENTITY).stat().st_mode) == 0o600
    async with node(state) as second:
        assert second.tox_id == first.tox_id
        assert second.tox_id.public_key == second.public_key
        assert second.dht_key != first.dht_key


async def test_a_killed_node_keeps_its_id_and_friends(state: StateFolder) -> None:
    async with node(state) as first:
        friend = first.admit_friend(KEY)
        saved = (state.path / IDENTITY).read_bytes()
    (state.path / IDENTITY).write_bytes(saved)
    async with node(state) as second:
        assert second.tox_id == first.tox_id
        assert second.friends == {KEY: friend}


async def test_admitting_or_removing_a_friend_twice_changes_nothing(state: StateFolder) -> None:
    async with node(state) as it:
        assert it.admit_friend(KEY) == it.admit_friend(KEY)
        it.remove_friend(KEY)
        it.remove_friend(KEY)
        assert it.friends == {}


async def test_a_friend_is_asked_again_after_a_restart(state: StateFolder, stranger: ToxId) -> None:
    async with node(state) as it:
        it.add_friend(stranger, b"toxproxy")
        it.add_friend(stranger, b"toxproxy secret")
        assert list(it.friends) == [stranger.public_key]
    async with node(state) as it:
        assert list(it.friends) == [stranger.public_key]
        friend = it.add_friend(stranger, b"toxproxy")
        assert it.friends == {stranger.public_key: friend}


async def test_a_friend_request_may_contain_bytes_that_are_not_utf_8(
    state: StateFolder, stranger: ToxId
) -> None:
    async with node(state) as it:
        assert it.add_friend(stranger, b"\xff\xfe\x00") in it.friends.values()


async def test_a_node_cannot_be_its_own_friend(state: StateFolder) -> None:
    async with node(state) as it:
        with pytest.raises(ToxproxyError, match="this node's own Tox ID"):
            it.add_friend(it.tox_id, b"toxproxy")


async def test_a_long_name_is_cut_between_two_characters(state: StateFolder) -> None:
    async with Node(PRIVATE, state, "é" * 100, Diary()):
        pass
    tox = Tox(ToxOptions(savedata_data=state.read(IDENTITY), udp_enabled=False))
    assert tox.self_get_name() == "é" * 64
    tox.kill()


async def saved_identity(state: StateFolder) -> bytes:
    async with node(state):
        pass
    saved = state.read(IDENTITY)
    assert saved is not None
    return saved


@pytest.mark.parametrize("kind", ["empty", "rubbish", "cut short", "header only", "key changed"])
async def test_a_damaged_identity_is_named_and_not_overwritten(state: StateFolder, kind: str) -> None:
    saved = await saved_identity(state)
    tox = Tox(ToxOptions(savedata_data=saved, udp_enabled=False))
    key_at = saved.index(bytes.fromhex(tox.self_get_public_key()))
    tox.kill()
    damaged = {
        "empty": b"",
        "rubbish": b"rubbish" * 100,
        "cut short": saved[:50],
        "header only": saved[:8],
        "key changed": saved[: key_at + 40] + bytes([saved[key_at + 40] ^ 4]) + saved[key_at + 41 :],
    }[kind]
    state.write(IDENTITY, damaged)
    with pytest.raises(StateError, match=f"{state.path / IDENTITY} is damaged: restore a backup, or move"):
        await node(state).start()
    assert state.read(IDENTITY) == damaged


async def test_an_encrypted_identity_has_an_error_of_its_own(state: StateFolder) -> None:
    state.write(IDENTITY, b"toxEsave" + bytes(100))  # toxencryptsave.h: TOX_PASS_ENCRYPTION magic
    with pytest.raises(StateError, match="is encrypted: save it without a password"):
        await node(state).start()


async def test_a_node_does_not_start_if_its_identity_cannot_be_saved(state: StateFolder) -> None:
    port = unused_port()
    settings = replace(PRIVATE, ports=(port, port))
    state.path.rmdir()
    with pytest.raises(StateError, match="cannot be written"):
        await node(state, settings).start()
    state.path.mkdir(mode=0o700)
    async with node(state, settings) as it:
        assert it.udp_port == port


async def test_a_node_keeps_its_udp_port_where_it_can(state: StateFolder) -> None:
    """If it knows where friends are: that is when it helps."""
    async with node(state) as it:
        kept = it.udp_port
        assert kept is not None
    assert kept_port(state) is None
    known = KnownNodes(state)
    known.put(KEY, KnownNode(KEY, ()))
    known.port = kept
    known.write()
    async with node(state) as it:
        assert it.udp_port == kept
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", kept))
        async with node(state) as it:
            assert it.udp_port != kept
        assert kept_port(state) == it.udp_port
    async with node(state, replace(PRIVATE, ports=(42000, 42999))) as it:
        assert it.udp_port in range(42000, 43000)


async def test_taken_udp_ports_are_named(state: StateFolder) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        with pytest.raises(
            ToxproxyError, match=f"^Tox does not start: no UDP port from {port} to {port} is free$"
        ):
            await node(state, replace(PRIVATE, ports=(port, port))).start()


async def test_a_taken_relay_port_is_named(state: StateFolder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ToxproxyError, match=f"TCP port {port} cannot be bound for the relay"):
            await node(state, replace(PRIVATE, udp=False, tcp_relay=port)).start()


async def test_a_node_has_the_ports_that_it_uses(state: StateFolder) -> None:
    port = unused_port()
    async with node(state, replace(PRIVATE, ports=(port, port), tcp_relay=port)) as it:
        assert it.udp_port == it.tcp_port == port
    async with node(state, replace(PRIVATE, udp=False)) as it:
        assert it.udp_port is None
        assert it.tcp_port is None


async def test_a_proxy_that_is_not_found_is_named(state: StateFolder) -> None:
    loopback = (BootstrapNode("127.0.0.1", 1, KEY),)
    proxy = TransportProxy("socks5", "::1", 9050)  # the network of this node is IPv4 only
    with pytest.raises(ToxproxyError, match=r"the proxy \[::1\]:9050 for Tox is not found: "):
        await node(state, replace(PRIVATE, bootstrap=loopback, proxy=proxy)).start()


async def test_tox_goes_through_the_proxy_and_nowhere_else(state: StateFolder, hosts: Hosts) -> None:
    hosts["proxy.test"] = ["127.0.0.1"]
    greeted: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def proxy_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = await reader.readexactly(3)
        if not greeted.done():
            greeted.set_result(greeting)
        writer.close()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as introducer:
        introducer.bind(("127.0.0.1", 0))
        introducer.setblocking(False)
        bootstrap = (BootstrapNode("127.0.0.1", introducer.getsockname()[1], KEY),)
        async with await asyncio.start_server(proxy_client, "127.0.0.1", 0) as server:
            proxy = TransportProxy("socks5", "proxy.test", server.sockets[0].getsockname()[1])
            async with node(state, replace(PRIVATE, bootstrap=bootstrap, proxy=proxy)) as it:
                assert await asyncio.wait_for(greeted, 20) == b"\x05\x01\x00"
                assert it.udp_port is None
        with pytest.raises(BlockingIOError):
            introducer.recv(2000)


async def test_a_closed_node_leaves_nothing_open(state: StateFolder) -> None:
    before = len(os.listdir("/dev/fd"))
    bootstrap = (BootstrapNode("127.0.0.1", 9, KEY),)
    async with node(state, replace(PRIVATE, bootstrap=bootstrap)) as it:
        assert len(os.listdir("/dev/fd")) > before
    await it.close()
    assert len(os.listdir("/dev/fd")) == before
    assert asyncio.all_tasks() == {asyncio.current_task()}
    with pytest.raises(RuntimeError, match="not running"):
        it.send_lossy(0, b"\xc8")


async def test_a_node_is_closed_even_if_closing_is_cancelled(state: StateFolder) -> None:
    before = len(os.listdir("/dev/fd"))
    it = node(state, replace(PRIVATE, bootstrap=(BootstrapNode("127.0.0.1", 9, KEY),)))
    await it.start()
    closing = asyncio.create_task(it.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing])
    assert len(os.listdir("/dev/fd")) == before
