"""A client that is stopped for a while, as if its machine slept."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from tests.end.world import told
from toxproxy.demo import PrivateNetwork
from toxproxy.link.enet import SILENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_connection_goes_on_after_sleep(network: PrivateNetwork) -> None:
    reader, writer = await asyncio.open_connection(*network.listener("knock"))
    writer.write(b"before")
    os.kill(network.client.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(SILENCE + 1)
        writer.write(b" and after")
    finally:
        os.kill(network.client.pid, signal.SIGCONT)
    writer.write_eof()
    async with asyncio.timeout(60):
        assert await reader.read() == b"before and after"
    writer.close()
    await told(network.client, "woke after")
