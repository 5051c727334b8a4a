"""A client that is revoked while it is connected."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.app.test_control_plane import PATIENCE, client_of, running
from tests.asking import request
from toxproxy.app.server import Server
from toxproxy.control.snapshots import PeerState

STAYS = 10.0  # seconds after a restart in which an allowed client was connected long since


async def test_a_revoked_client_is_out_within_a_second_and_stays_out_after_a_restart_of_both(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as ends:
        key = ends.client.node.public_key
        await request(tmp_path / "server", "allow", key=key.hex(), name="laptop")
        await ends.connected()
        async with ends.talking() as (reader, _):
            began = time.monotonic()
            await request(tmp_path / "server", "revoke", key="laptop")
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), PATIENCE)
            assert time.monotonic() - began < 1
            assert ends.server.streams == 0
            while key in ends.server.node.friends:
                assert time.monotonic() - began < 1
                await asyncio.sleep(0.01)
    async with (
        Server(ends.server.config, tmp_path / "server") as server,
        client_of(server, tmp_path / "client", 9) as client,
    ):
        async with asyncio.timeout(PATIENCE):
            while key not in server.access.waiting:  # it asks again, as a stranger
                await asyncio.sleep(0.05)
        await asyncio.sleep(STAYS)
        assert [peer.state for peer in client.peers()] != [PeerState.CONNECTED]
        assert server.node.friends == {}
        assert (await request(tmp_path / "server", "clients"))["clients"] == []
        assert (await request(tmp_path / "server", "waiting"))["waiting"][0]["key"] == key.hex().upper()
