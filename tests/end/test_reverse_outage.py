"""A download through a server's port that leads to the client, while the two do not hear each other."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from faults.content import BLOCK, Content, Receipt
from faults.plan import Side
from tests.asking import request
from tests.end.world import ask, told
from tests.inbound.peers import Origin, echo
from tests.ports import unused_port
from toxproxy.demo.network import Process

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

TOX = "[tox]\nlocal_discovery = no\nport = 22000-22999\nwait = 60\nbootstrap = {node}\n"
SIZE = 20_000_000  # bytes
GONE = 12.0  # seconds; after ten the link is given up and another one begun
PATIENCE = 90.0  # seconds


def content() -> Content:
    return Content(1, 0, Side.NEAR, SIZE)


async def download(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for piece in content().pieces():
        writer.write(piece)
        await writer.drain()
    writer.close()


@dataclass
class Scene:
    folder: Path
    server: Process
    client: Process
    port: int
    settings: str

    async def state(self, state: str) -> dict[str, Any]:
        """Wait until the client says this of its listeners at the server."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status = await request(self.folder / "client.state", "status")
                if {each["state"] for each in status["listeners"]} == {state}:
                    return dict(status)
                await asyncio.sleep(0.2)

    async def permit(self) -> None:
        key = self.client.ready["public_key"]
        self.server.config.write_text(f"{self.settings}[client near]\nkey = {key}\nlisten = 127.0.0.1:*\n")
        self.signal(self.server, signal.SIGHUP)
        await self.state("listening")

    def signal(self, process: Process, number: signal.Signals) -> None:
        assert process._process is not None
        process._process.send_signal(number)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("reverse")
    async with AsyncExitStack() as stack:
        large = await stack.enter_async_context(Origin(download))
        small = await stack.enter_async_context(Origin(echo))
        server, client = Process("server", folder), Process("client", folder)
        for process in (server, client):
            stack.push_async_callback(process.stop)
        settings = TOX.format(node="none") + "[access]\nallow = *\n"
        await server.start(settings)
        node = f"127.0.0.1:{server.ready['udp_port']}:{server.ready['dht_key']}"
        port, home = unused_port(), server.ready["tox_id"]
        lines = f"large = {port}:127.0.0.1:{large.port}:{home}\nsmall = 0:127.0.0.1:{small.port}:{home}\n"
        await client.start(TOX.format(node=node) + "[reverse]\n" + lines)
        await client.wait_for("ready", PATIENCE)
        yield Scene(folder, server, client, port, settings)


async def test_a_download_through_an_outage(scene: Scene) -> None:
    await scene.state("refused")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", scene.port)
    await scene.permit()
    reader, _ = await asyncio.open_connection("127.0.0.1", scene.port, limit=BLOCK)
    receipt = Receipt(content())
    receipt.take(await reader.read(BLOCK))
    scene.signal(scene.client, signal.SIGSTOP)
    try:
        await asyncio.sleep(GONE)
        late, writer = await asyncio.open_connection("127.0.0.1", scene.port)  # the listener is there
    finally:
        scene.signal(scene.client, signal.SIGCONT)
    async with asyncio.timeout(PATIENCE):
        while data := await reader.read(BLOCK):
            receipt.take(data)
        assert await late.readexactly(1)
    writer.close()
    assert (receipt.got, receipt.wrong_at) == (SIZE, None)


async def test_a_client_that_is_started_again_asks_again(scene: Scene) -> None:
    await scene.permit()
    await scene.client.stop()
    line = await told(scene.server, " left")
    assert "client" in line
    async with asyncio.timeout(PATIENCE):
        while (await request(scene.folder / "server.state", "status"))["listeners"]:
            await asyncio.sleep(0.1)
    again = Process("client", scene.folder)
    try:
        await again.start(scene.client.config.read_text())
        status = await scene.state("listening")
        (small,) = (each["address"] for each in status["listeners"] if each["name"] == "small")
        assert await ask(("127.0.0.1", int(small.rpartition(":")[2])), b"hello") == b"hello"
    finally:
        await again.stop()
