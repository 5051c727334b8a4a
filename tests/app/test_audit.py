"""What a server's audit says of connections that a real client makes through it."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.joined import connected, node_of
from tests.machine import Hosts
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.service import COUNT, HOST, Port

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 30
TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 30\n"
LIMITS = "[limits]\nstreams = 3\nidle = 2\n"


@dataclass
class Ends:
    """Two ends that are connected. The server writes its audit to `file`, and calls the client laptop."""

    folder: Path
    server: Server
    client: Client
    echo: int
    reset: int

    @property
    def file(self) -> Path:
        return self.folder / "audit.log"

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    async def next_line(self, before: int) -> dict[str, Any]:
        """The only line that comes after `before` others."""
        async with asyncio.timeout(PATIENCE):
            while len(self.lines()) <= before:
                await asyncio.sleep(0.02)
        (line,) = self.lines()[before:]
        return line

    async def refused(self, host: str, port: int) -> dict[str, Any]:
        before = len(self.lines())
        with pytest.raises(StreamRefused):
            await self.client.open_connection(host, port)
        return await self.next_line(before)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with a reset."""
    await reader.read(1)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("audit")
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(service(each)) for each in (echo, reset)]
        text = TOX.format(node="none") + "[access]\nallow = *\npermit = 127.0.0.0/8:*, localhost:*\n"
        text += f"deny = 127.0.0.2:1-99\n{LIMITS}[log]\naudit_format = json\naudit = {folder / 'audit.log'}\n"
        (folder / "server.ini").write_text(text)
        settings = config.load(folder / "server.ini")
        server = await stack.enter_async_context(Server(settings, folder / "server"))
        server.reloader.source = lambda: config.load(folder / "server.ini")
        node = node_of(server)
        text = TOX.format(node=node) + f"[client]\necho = 0:127.0.0.1:{ports[0]}:{server.node.tox_id}\n"
        client = await stack.enter_async_context(Client(config.parse(text, "client"), folder / "client"))
        await connected(client)
        key = client.node.public_key.hex()
        await request(folder / "server", "allow", key=key, name="laptop")
        yield Ends(folder, server, client, *ports)


async def test_a_connection_that_ended_in_order(ends: Ends, hosts: Hosts) -> None:
    hosts["localhost"] = ["127.0.0.1"]
    before = len(ends.lines())
    reader, writer = await ends.client.open_connection("localhost", ends.echo)
    writer.write(b"hello")
    writer.write_eof()
    assert await reader.read() == b"hello"
    writer.close()
    line = await ends.next_line(before)
    assert line.pop("time").endswith("Z")
    assert 0 < line.pop("duration_s") < PATIENCE
    assert line.pop("addresses") == ["127.0.0.1"]
    assert line == {
        "client_key": ends.client.node.public_key.hex().upper(),
        "client_name": "laptop",
        "target": f"localhost:{ends.echo}",
        "verdict": "permitted",
        "rule": "127.0.0.0/8:*",
        "to_target_bytes": 5,
        "to_client_bytes": 5,
        "end": "finished",
        "refusal": None,
    }
    assert stat.S_IMODE(ends.file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("host", "port", "verdict", "rule", "addresses", "refusal"),
    [
        ("127.0.0.2", 80, "denied", "127.0.0.2:1-99", ["127.0.0.2"], "not_permitted"),
        ("192.0.2.1", 80, "denied", None, ["192.0.2.1"], "not_permitted"),
        ("nobody.invalid", 80, "denied", None, [], "not_permitted"),
        ("127.0.0.1", 1, "permitted", "127.0.0.0/8:*", ["127.0.0.1"], "connection_refused"),
    ],
)
async def test_a_refused_connection_has_the_rule_that_decided(
    ends: Ends, host: str, port: int, verdict: str, rule: str | None, addresses: list[str], refusal: str
) -> None:
    line = await ends.refused(host, port)
    assert (line["target"], line["end"], line["refusal"]) == (f"{host}:{port}", "refused", refusal)
    assert (line["verdict"], line["rule"], line["addresses"]) == (verdict, rule, addresses)
    assert (line["to_target_bytes"], line["to_client_bytes"]) == (0, 0)


async def test_what_the_server_answers_itself_was_not_judged(ends: Ends) -> None:
    before = len(ends.lines())
    reader, writer = await ends.client.open_connection(HOST, Port.TIME)
    assert len(await reader.read()) == COUNT.size
    writer.close()
    line = await ends.next_line(before)
    assert (line["target"], line["verdict"], line["rule"]) == (f"{HOST}:37", "none", None)
    assert (line["to_client_bytes"], line["end"]) == (COUNT.size, "finished")


async def test_who_reset_a_connection_is_told(ends: Ends) -> None:
    before = len(ends.lines())
    reader, writer = await ends.client.open_connection("127.0.0.1", ends.reset)
    writer.write(b"x")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    line = await ends.next_line(before)
    assert (line["end"], line["to_target_bytes"]) == ("target_reset", 1)
    reader, writer = await ends.client.open_connection("127.0.0.1", ends.echo)
    writer.transport.abort()
    assert (await ends.next_line(before + 1))["end"] == "client_reset"
    reader, writer = await ends.client.open_connection("127.0.0.1", ends.echo)
    streams = (await request(ends.folder / "server", "streams"))["streams"]
    await request(ends.folder / "server", "close", id=streams[0]["id"])
    assert (await ends.next_line(before + 2))["end"] == "closed"
    reader, writer = await ends.client.open_connection("127.0.0.1", ends.echo)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    line = await ends.next_line(before + 3)
    assert line["end"] == "silent"
    assert 2 <= line["duration_s"] < PATIENCE


async def test_connections_beyond_the_limit_are_in_it_too(ends: Ends) -> None:
    """The limit was lowered after the client had learnt of it."""
    server = ends.folder / "server.ini"
    text = server.read_text()
    before = len(ends.lines())
    streams = [await ends.client.open_connection("127.0.0.1", ends.echo)]
    try:
        server.write_text(text.replace("streams = 3", "streams = 1"))
        await request(ends.folder / "server", "reload")
        line = await ends.refused("127.0.0.1", ends.echo)
        assert (line["verdict"], line["refusal"]) == ("none", Refusal.TOO_MANY_STREAMS.name.lower())
    finally:
        server.write_text(text)
        await request(ends.folder / "server", "reload")
        for _, writer in streams:
            writer.close()
    await ends.next_line(before + 1)


async def test_a_file_that_was_moved_away_is_begun_again_by_a_reload(ends: Ends) -> None:
    await ends.refused("192.0.2.1", 80)
    ends.file.rename(ends.folder / "moved")
    answer = await request(ends.folder / "server", "reload")
    assert (answer["changed"], ends.file.read_text()) == ([], "")
    await ends.refused("192.0.2.1", 80)
    told = await request(ends.folder / "server", "status")
    assert told["audit"] == {"file": str(ends.file), "lost": 0}


async def test_a_file_that_cannot_be_opened_refuses_the_reload(ends: Ends) -> None:
    server = ends.folder / "server.ini"
    text = server.read_text()
    server.write_text(text.replace("audit.log", "missing/audit.log").replace("127.0.0.0/8:*", "*:*"))
    try:
        with pytest.raises(Exception, match="expected a file to write to, found: No such file"):
            await request(ends.folder / "server", "reload")
        assert (await ends.refused("192.0.2.1", 80))["rule"] is None
    finally:
        server.write_text(text)


async def test_a_client_that_is_shut_out_leaves_lines_of_its_connections(ends: Ends) -> None:
    before = len(ends.lines())
    reader, _ = await ends.client.open_connection("127.0.0.1", ends.echo)
    await request(ends.folder / "server", "block", key="laptop")
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    assert (await ends.next_line(before))["end"] == "session_ended"
    await request(ends.folder / "server", "allow", key="laptop")


async def test_a_server_that_ends_writes_the_lines_of_what_it_resets(tmp_path: Path) -> None:
    file = tmp_path / "audit.log"
    async with service(echo) as port:
        text = TOX.format(node="none") + f"[access]\nallow = *\npermit = *:*\n[log]\naudit = {file}\n"
        async with AsyncExitStack() as stack:
            server = Server(config.parse(text, "server"), tmp_path / "server")
            async with server:
                node = node_of(server)
                text = TOX.format(node=node) + f"[client]\necho = 0:127.0.0.1:{port}:{server.node.tox_id}\n"
                settings = config.parse(text, "client")
                client = await stack.enter_async_context(Client(settings, tmp_path / "client"))
                connection = await client.open_connection("127.0.0.1", port)
            (line,) = file.read_text().splitlines()
            connection[1].close()  # until here it is held
    assert f" client=- key={client.node.public_key.hex().upper()[:12]} target=127.0.0.1:{port} " in line
    assert line.endswith(" end=session_ended refusal=-")
