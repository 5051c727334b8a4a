"""`toxproxy doctor` on a machine from which no UDP packet gets out, with and without a running client."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.end.test_no_udp import _NO_UDP, _TOX, ip, places  # noqa: F401
from tests.end.test_no_udp import pytestmark as pytestmark
from toxproxy.demo.network import Place, Process

# Dropped on the way, as by a router: the sender learns nothing.
_SWALLOWED = """
flush ruleset
add table netdev f
add chain netdev f out { type filter hook egress device "eth" priority 0; }
add rule netdev f out meta l4proto udp drop
"""


async def doctor(place: Place, *arguments: object) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *place.command, sys.executable, "-m", "toxproxy", "doctor", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(40):
        out, _ = await process.communicate()
    return process.returncode, out.decode()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        (
            None,
            "This machine's own firewall refuses UDP, so every path is a slow relay: let toxproxy",
        ),
        (_SWALLOWED, "UDP does not get out or back here, so every path is a slow relay: let UDP out in the"),
    ],
)
async def test_that_udp_is_dropped_is_named_in_the_first_line(
    tmp_path: Path,
    places: list[Place],  # noqa: F811
    rules: str | None,
    said: str,
) -> None:
    if rules is not None:
        ip(f"netns exec {places[2].command[3]} nft", rules)
    os.mkdir(tmp_path / "relay")
    relay = Process("server", tmp_path / "relay", places[0])
    server, client = Process("server", tmp_path, places[1]), Process("client", tmp_path, places[2])
    try:
        await relay.start(f"{_TOX.format(node='none')}port = 33445-33445\ntcp_relay = 33445\n")
        tox = _TOX.format(node=f"{places[0].address}:33445:{relay.ready['dht_key']}")
        await server.start(f"{tox}[access]\nallow = *\n")
        text = f"{tox}[socks]\nbrowser = 0:{server.ready['tox_id']}\n"
        client.config.write_text(text)
        before = await doctor(places[2], client.config, "--state", tmp_path / "client.state")
        elsewhere = await doctor(places[1], client.config, "--state", tmp_path / "elsewhere")
        await client.start(text)
        await client.wait_for("ready", 60)
        await asyncio.sleep(12)  # until it is sure that UDP does not come
        running = await doctor(places[2], "--state", tmp_path / "client.state")
    finally:
        await asyncio.gather(client.stop(), server.stop(), relay.stop())
    for status, out in (before, running):
        assert status == 1, out
        assert out.startswith(said)
    assert "through a relay" in running[1]
    assert elsewhere[0] == 0, elsewhere[1]
