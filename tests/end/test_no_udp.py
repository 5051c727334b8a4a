"""A client on a machine that lets no UDP out: it is connected all the same, and told how."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.isolated import needs_namespaces
from toxproxy.control.client import ask
from toxproxy.demo.network import Place, Process

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]

PATIENCE = 60
_TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\n"
# ENet's own packets on loopback may pass.
_SILENTLY = """
add table inet f
add chain inet f in { type filter hook input priority 0; }
add rule inet f in iifname != "lo" meta l4proto udp drop
add table netdev f
add chain netdev f out { type filter hook egress device "eth" priority 0; }
add rule netdev f out meta l4proto udp drop
"""
# The sender of a packet gets EPERM.
_REFUSED = """
add table inet f
add chain inet f out { type filter hook output priority 0; }
add rule inet f out oifname != "lo" meta l4proto udp drop
"""


_numbers = count()


def ip(command: str, *rest: str) -> None:
    subprocess.run(["ip", *command.split(), *rest], check=True, capture_output=True, timeout=20)


@contextmanager
def three_places() -> Iterator[list[Place]]:
    """Three machines on one network, with addresses that libtoxcore does not take for local ones.

    UDP is refused at the last one. Skips the test where that cannot be made.
    """
    own = f"toxproxy-udp-{os.getpid()}-{next(_numbers)}"
    hub, *names = [f"{own}-{name}" for name in ("hub", "relay", "server", "client")]
    made: list[str] = []
    try:
        for name in (hub, *names):
            ip(f"netns add {name}")
            made.append(name)
            ip(f"-n {name} link set lo up")
        ip(f"-n {hub} link add net type bridge")
        ip(f"-n {hub} link set net up")
        for number, name in enumerate(names, 1):
            ip(f"-n {hub} link add to{number} type veth peer name eth netns {name}")
            ip(f"-n {hub} link set to{number} master net up")
            ip(f"-n {name} addr add 198.18.0.{number}/24 dev eth")
            ip(f"-n {name} link set eth up")
        yield [
            Place(("ip", "netns", "exec", name), f"198.18.0.{number}") for number, name in enumerate(names, 1)
        ]
    finally:
        for name in made:
            ip(f"netns del {name}")


@pytest.fixture
def places() -> Iterator[list[Place]]:
    with three_places() as places:
        yield places


def block(place: Place, rules: str = _REFUSED) -> None:
    """Let no UDP out of a machine."""
    try:
        subprocess.run([*place.command, "nft", rules], check=True, capture_output=True, timeout=20)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"nft cannot be used here: {error.stderr!r}")


def allow(place: Place) -> None:
    """End that."""
    subprocess.run([*place.command, "nft", "flush ruleset"], check=True, timeout=20)


async def toxproxy(*arguments: object) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def status(folder: Path) -> str:
    code, out = await toxproxy("status", "--state", folder)
    assert code == 0
    return out


async def peer_of(folder: Path) -> dict[str, Any]:
    """The other end, as the one with this state folder tells of it."""
    told: Any = await asyncio.to_thread(ask, folder, "status")
    (peer,) = told["peers"]
    return dict(peer)


async def until(folder: Path, **fields: str) -> dict[str, Any]:
    """Wait until the other end's snapshot has these values."""
    end = time.monotonic() + PATIENCE
    while True:
        peer = await peer_of(folder)
        if all(peer[name] == value for name, value in fields.items()):
            return peer
        assert time.monotonic() < end, (fields, peer)
        await asyncio.sleep(0.2)


async def test_a_client_without_udp_is_connected_through_a_relay_and_told_why(
    tmp_path: Path, places: list[Place]
) -> None:
    os.mkdir(tmp_path / "relay")
    relay = Process("server", tmp_path / "relay", places[0])
    server, client = Process("server", tmp_path, places[1]), Process("client", tmp_path, places[2])
    block(places[2])
    try:
        alone = _TOX.format(node="none")
        await relay.start(f"{alone}port = 33445-33445\ntcp_relay = 33445\n")  # one number for UDP and TCP
        tox = _TOX.format(node=f"{places[0].address}:33445:{relay.ready['dht_key']}")
        await server.start(f"{tox}[access]\nallow = *\n")
        await client.start(f"{tox}[socks]\nbrowser = 0:{server.ready['tox_id']}\n")
        await client.wait_for("ready", 60)
        await asyncio.sleep(10)  # until it is sure that UDP does not come
        near, far = await status(tmp_path / "client.state"), await status(tmp_path / "server.state")
    finally:
        await asyncio.gather(client.stop(), server.stop(), relay.stop())
    assert near.startswith("Connected to the server, through a relay (")
    assert "Tox network: connected by TCP for " in near
    assert "\nUDP does not get out here, so the path is a relay" in near
    assert far.startswith("1 client is connected, through a relay.\n")
    assert "Tox network: connected by UDP for " in far
    assert "\nUDP works here, but not at client " in far


async def test_when_udp_is_blocked_status_says_relay_and_why_and_later_the_path_is_direct_again(
    tmp_path: Path, places: list[Place]
) -> None:
    os.mkdir(tmp_path / "relay")
    relay = Process("server", tmp_path / "relay", places[0])
    server, client = Process("server", tmp_path, places[1]), Process("client", tmp_path, places[2])
    near, far = tmp_path / "client.state", tmp_path / "server.state"
    try:
        await relay.start(f"{_TOX.format(node='none')}port = 33445-33445\ntcp_relay = 33445\n")
        tox = _TOX.format(node=f"{places[0].address}:33445:{relay.ready['dht_key']}")
        await server.start(f"{tox}[access]\nallow = *\n")
        await client.start(f"{tox}[socks]\nbrowser = 0:{server.ready['tox_id']}\n")
        await client.wait_for("ready", 60)
        await until(near, state="connected", path="direct")
        await asyncio.sleep(15)  # libtoxcore closes relays that it does not use 10 s after it met them
        block(places[2], _SILENTLY)
        peer, _ = await asyncio.gather(
            until(near, state="connected", path="relay", relay_reason="udp_blocked"),
            until(far, relay_reason="no_udp_there"),
        )
        late = time.time() - peer["path_since_unix_s"]
        shown = await status(near)
        ping = await toxproxy("ping", "--until-direct", "--count", "1", "--state", near)
        allow(places[2])
        again = await toxproxy("ping", "--until-direct", "--state", near)
        after = await peer_of(near)
    finally:
        await asyncio.gather(client.stop(), server.stop(), relay.stop())
    assert late < 30  # five seconds on a machine that is not busy; libtoxcore tells after two minutes
    assert ": UDP is blocked here.\n" in shown
    assert "\nUDP does not get out here, so the path is a relay" in shown
    assert ping[0] == 1
    assert (again[0], again[1].endswith(", direct\n")) == (0, True)
    assert (after["path"], after["relay_reason"]) == ("direct", None)


async def test_udp_that_is_blocked_while_the_path_is_a_relay_anyway_is_noticed_by_who_looks(
    tmp_path: Path, places: list[Place]
) -> None:
    os.mkdir(tmp_path / "relay")
    relay = Process("server", tmp_path / "relay", places[0])
    server, client = Process("server", tmp_path, places[1]), Process("client", tmp_path, places[2])
    near = tmp_path / "client.state"
    try:
        await relay.start(f"{_TOX.format(node='none')}port = 33445-33445\ntcp_relay = 33445\n")
        tox = _TOX.format(node=f"{places[0].address}:33445:{relay.ready['dht_key']}")
        await server.start(f"{tox}udp = no\n[access]\nallow = *\n")
        await client.start(f"{tox}[socks]\nbrowser = 0:{server.ready['tox_id']}\n")
        await client.wait_for("ready", 60)
        await until(near, state="connected", path="relay", relay_reason="no_udp_there")
        block(places[2], _SILENTLY)
        await until(near, state="connected", path="relay", relay_reason="udp_blocked")
        allow(places[2])
        await until(near, state="connected", path="relay", relay_reason="no_udp_there")
    finally:
        await asyncio.gather(client.stop(), server.stop(), relay.stop())
