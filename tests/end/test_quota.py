"""What a client has used of its quota, at a server that is killed."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.asking import request
from tests.end.services import Address, order
from tests.end.world import Services
from toxproxy.admission.quotas import FILE, SAVE_AFTER
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import Process

pytestmark = pytest.mark.asyncio(loop_scope="session")

PATIENCE = 60
SIZE = 1_000_000  # bytes in each direction


async def used(folder: Path) -> Any:
    (client,) = (await request(folder / "server.state", "clients"))["clients"]
    return client["allowance"]["used_bytes"]


async def test_a_server_that_is_killed_remembers_all_but_the_last_seconds(
    tmp_path: Path, services: Services
) -> None:
    exchange: Address = ("127.0.0.1", services.exchange.port)
    server = f"[access]\npermit = 127.0.0.1:{exchange[1]}\n"
    client = f"[client]\nexchange = 0:127.0.0.1:{exchange[1]}:TOXID\n"
    async with PrivateNetwork(tmp_path, server=server, client=client) as network:
        await network.connected()
        text = network.server.config.read_text()
        text += f"[client laptop]\nkey = {network.client.ready['public_key']}\nquota = 1G\n"
        network.server.config.write_text(text)
        await request(tmp_path / "server.state", "reload")
        await order(network.listener("exchange"), 1, down=SIZE, up=SIZE)
        assert await used(tmp_path) >= 2 * SIZE
        await asyncio.sleep(SAVE_AFTER)
        async with asyncio.timeout(PATIENCE):
            while not (tmp_path / "server.state" / FILE).exists():
                await asyncio.sleep(0.1)
        os.kill(network.server.pid, signal.SIGKILL)
        await network.server.stop()
        again = Process("server", tmp_path)
        try:
            await again.start(text)
            assert await used(tmp_path) >= 2 * SIZE
        finally:
            await again.stop()
