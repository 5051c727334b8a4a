"""`toxproxy doctor` on a machine from which no UDP packet gets out, with and without a running client."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.end.test_no_udp import _REFUSED, _TOX, block, three_places
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


async def dropped(folder: Path, rules: str) -> tuple[tuple[int | None, str], ...]:
    """What doctor says where UDP is stopped by these rules of nft: before the client runs, and while it runs.

    And at the server, where UDP works.
    """
    os.makedirs(folder / "relay")
    with three_places() as places:
        block(places[2], rules)
        relay = Process("server", folder / "relay", places[0])
        server, client = Process("server", folder, places[1]), Process("client", folder, places[2])
        try:
            await relay.start(f"{_TOX.format(node='none')}port = 33445-33445\ntcp_relay = 33445\n")
            tox = _TOX.format(node=f"{places[0].address}:33445:{relay.ready['dht_key']}")
            await server.start(f"{tox}[access]\nallow = *\n")
            text = f"{tox}[socks]\nbrowser = 0:{server.ready['tox_id']}\n"
            client.config.write_text(text)
            before, elsewhere = await asyncio.gather(
                doctor(places[2], client.config, "--state", folder / "client.state"),
                doctor(places[1], client.config, "--state", folder / "elsewhere"),
            )
            await client.start(text)
            await client.wait_for("ready", 60)
            await asyncio.sleep(12)  # until it is sure that UDP does not come
            running = await doctor(places[2], "--state", folder / "client.state")
        finally:
            await asyncio.gather(client.stop(), server.stop(), relay.stop())
    return before, running, elsewhere


async def test_that_udp_is_dropped_is_named_in_the_first_line(tmp_path: Path) -> None:
    refused, swallowed = await asyncio.gather(
        dropped(tmp_path / "refused", _REFUSED), dropped(tmp_path / "swallowed", _SWALLOWED)
    )
    for (before, running, elsewhere), said in (
        (refused, "This machine's own firewall refuses UDP, so every path is a slow relay: let toxproxy"),
        (swallowed, "UDP does not get out or back here, so every path is a slow relay: let UDP out in the"),
    ):
        for status, out in (before, running):
            assert status == 1, out
            assert out.startswith(said)
        assert "through a relay" in running[1]
        assert elsewhere[0] == 0, elsewhere[1]
