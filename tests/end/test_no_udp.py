"""A client on a machine that lets no UDP out: it is connected all the same, and told how."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.isolated import needs_namespaces
from toxproxy.demo.network import Place, Process

pytestmark = [
    needs_namespaces,
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]

_TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\n"
# ENet's own packets on loopback may pass. The sender of any other gets EPERM.
_NO_UDP = """
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
        try:
            ip(f"netns exec {names[2]} nft", _NO_UDP)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"nft cannot be used here: {error.stderr!r}")
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


async def status(folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", "status", "--state", folder, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_a_client_without_udp_is_connected_through_a_relay_and_told_why(
    tmp_path: Path, places: list[Place]
) -> None:
    os.mkdir(tmp_path / "relay")
    relay = Process("server", tmp_path / "relay", places[0])
    server, client = Process("server", tmp_path, places[1]), Process("client", tmp_path, places[2])
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
    assert "\nUDP works here, but Tox finds no direct path to client " in far
