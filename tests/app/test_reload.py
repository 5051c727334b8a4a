"""A configuration that is read again while a server and a client run, connected on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.asking import request
from tests.joined import connected, node_of
from tests.ports import unused_port
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.messages import ControlError

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 10\n"
BLOB = random.Random(7).randbytes(64 * 1024)
DOWNLOADS = 200

begun: list[None] = []  # one for each connection to the slow service
go_on = asyncio.Event()


@dataclass
class Ends:
    """Two ends that are connected, their files, and what is behind the server."""

    folder: Path
    server: Server
    client: Client
    echo: int
    blob: int

    def write(self, role: str, text: str) -> None:
        node = "none"
        if role == "client":
            node = node_of(self.server)
            text = text.replace("TOXID", str(self.server.node.tox_id))
        (self.folder / f"{role}.ini").write_text(TOX.format(node=node) + text)

    async def reload(self, role: str, text: str) -> dict[str, list[str]]:
        """Write the file of one end and have it read again."""
        self.write(role, text)
        answer: dict[str, list[str]] = await request(self.folder / role, "reload")
        return answer

    async def usual(self) -> None:
        """Both as at the start, in what other tests change."""
        await self.reload("server", self.permit())
        await self.reload("client", self.forward("echo", self.echo))

    def permit(self, rules: str = "127.0.0.1:*", more: str = "") -> str:
        return f"[access]\nallow = {self.client.node.public_key.hex()}\npermit = {rules}\n{more}"

    def forward(self, name: str, target: int, port: int = 0) -> str:
        return f"[client]\n{name} = {port}:127.0.0.1:{target}:TOXID\n"

    def port(self, name: str) -> int:
        (address,) = (each.address for each in self.client.listening() if each.name == name)
        return int(address.rpartition(":")[2])

    async def connected(self) -> None:
        await connected(self.client)


async def slow_blob(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends half of `BLOB` at once, and the rest when `go_on` is set."""
    begun.append(None)
    half = len(BLOB) // 2
    writer.write(BLOB[:half])
    await writer.drain()
    await go_on.wait()
    writer.write(BLOB[half:])
    await writer.drain()
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("reload")
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(service(each)) for each in (echo, slow_blob)]
        text = TOX.format(node="none") + "[access]\nallow = *\n"
        server = await stack.enter_async_context(Server(config.parse(text, "server"), folder / "server"))
        node = node_of(server)
        text = TOX.format(node=node) + f"[client]\necho = 0:127.0.0.1:{ports[0]}:{server.node.tox_id}\n"
        client = await stack.enter_async_context(Client(config.parse(text, "client"), folder / "client"))
        server.reloader.source = lambda: config.load(folder / "server.ini")
        client.reloader.source = lambda: config.load(folder / "client.ini")
        ends = Ends(folder, server, client, *ports)
        await ends.connected()
        yield ends


@pytest_asyncio.fixture(loop_scope="module")
async def ends(world: Ends) -> Ends:
    go_on.set()
    await world.usual()
    await world.connected()
    return world


@asynccontextmanager
async def talking(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def says(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes) -> None:
    """Whether the echo service still answers on a connection."""
    writer.write(text)
    assert await asyncio.wait_for(reader.readexactly(len(text)), PATIENCE) == text


async def downloaded(port: int) -> str:
    async with talking(port) as (reader, _):
        return hashlib.sha256(await asyncio.wait_for(reader.read(-1), PATIENCE)).hexdigest()


async def refused(port: int) -> bool:
    """Whether a new connection through the forward on `port` comes to nothing."""
    try:
        async with talking(port) as (reader, writer):
            writer.write(b"x")
            return await asyncio.wait_for(reader.read(1), PATIENCE) == b""
    except OSError:
        return True


async def test_200_downloads_do_not_notice_that_forwards_and_rules_change(ends: Ends) -> None:
    lasting, leaving, added = unused_port(), unused_port(), unused_port()
    begun.clear()
    go_on.clear()
    forwards = ends.forward("lasting", ends.blob, lasting) + ends.forward("leaving", ends.blob, leaving)
    answer = await ends.reload("client", forwards)
    assert (answer["added"], answer["removed"]) == (
        ["[client] lasting", "[client] leaving"],
        ["[client] echo"],
    )
    downloads = [
        asyncio.create_task(downloaded(lasting if number % 4 else leaving)) for number in range(DOWNLOADS)
    ]
    async with asyncio.timeout(PATIENCE):
        while len(begun) < DOWNLOADS:
            await asyncio.sleep(0.02)
    answer = await ends.reload("server", ends.permit(f"127.0.0.1:{ends.echo}"))
    assert answer["changed"] == ["[access] permit"]
    answer = await ends.reload(
        "client", ends.forward("lasting", ends.blob, lasting) + ends.forward("added", ends.echo, added)
    )
    assert (answer["added"], answer["removed"]) == (["[client] added"], ["[client] leaving"])
    async with talking(added) as (reader, writer):
        await says(reader, writer, b"hello")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", leaving)
        assert await refused(lasting)  # by the new rules
        assert not any(download.done() for download in downloads)
        go_on.set()
        assert set(await asyncio.gather(*downloads)) == {hashlib.sha256(BLOB).hexdigest()}
        await says(reader, writer, b"still here")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[client]\necho = nonsense\n", r"client\.ini:7: expected \[localip:\]localport"),
        ("[access]\npermit = x\n", r"client\.ini:7: expected host:port"),
        ("", "expected a forward in .*, found none"),
    ],
)
async def test_a_wrong_file_changes_nothing_and_the_line_is_named(ends: Ends, text: str, error: str) -> None:
    before = ends.client.config, list(ends.client.listening())
    async with talking(ends.port("echo")) as stream:
        await says(*stream, b"before")
        with pytest.raises(ControlError, match=error):
            await ends.reload("client", text)
        await says(*stream, b"after")
    assert (ends.client.config, list(ends.client.listening())) == before


async def test_a_port_that_is_taken_refuses_the_whole_reload(ends: Ends) -> None:
    before = list(ends.client.listening())
    free = unused_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        text = ends.forward("free", ends.echo, free) + ends.forward("busy", ends.echo, number)
        with pytest.raises(ControlError, match=f"busy: cannot listen on 127.0.0.1:{number}: address already"):
            await ends.reload("client", text)
    assert list(ends.client.listening()) == before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", free)


async def test_a_forward_that_leads_elsewhere_keeps_its_port_and_its_connections(ends: Ends) -> None:
    port = unused_port()
    await ends.reload("client", ends.forward("it", ends.echo, port))
    async with talking(port) as stream:
        await says(*stream, b"before")
        answer = await ends.reload("client", ends.forward("it", ends.blob, port))
        assert (answer["added"], answer["removed"], answer["changed"]) == ([], [], ["[client] it"])
        assert await downloaded(port) == hashlib.sha256(BLOB).hexdigest()
        await says(*stream, b"after")


async def test_a_proxy_port_takes_the_place_of_a_forward(ends: Ends) -> None:
    port = unused_port()
    await ends.reload("client", ends.forward("it", ends.echo, port))
    async with talking(port) as stream:
        await says(*stream, b"before")
        await ends.reload("client", f"[socks]\nit = {port}:TOXID\n")
        async with talking(port) as (reader, writer):
            writer.write(f"CONNECT 127.0.0.1:{ends.echo} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            await says(reader, writer, b"through the proxy")
        await says(*stream, b"after")


async def test_a_port_on_more_addresses_needs_two_steps_and_the_error_says_so(ends: Ends) -> None:
    port = unused_port()
    await ends.reload("client", ends.forward("it", ends.echo, port))
    wide = ends.forward("it", ends.echo, port).replace(f"= {port}:", f"= *:{port}:")
    with pytest.raises(ControlError, match=rf"it still listens on 127\.0\.0\.1:{port}: remove that first"):
        await ends.reload("client", wide)


async def test_a_checkup_tries_the_targets_that_there_are_now(ends: Ends) -> None:
    await ends.reload("client", ends.forward("other", ends.blob))
    checks = (await request(ends.folder / "client", "checkup"))["checks"]
    tried = [each["about"] for each in checks if each["kind"] == "targets"]
    assert tried == [f"127.0.0.1:{ends.blob}"]


async def test_limits_count_at_once(ends: Ends) -> None:
    async with talking(ends.port("echo")) as stream:
        await says(*stream, b"before")
        answer = await ends.reload("server", ends.permit(more="[limits]\nstreams = 1\nmemory = 2M\n"))
        assert answer["changed"] == ["[limits] streams", "[limits] memory"]
        assert await refused(ends.port("echo"))
        await ends.usual()
        assert not await refused(ends.port("echo"))
        await says(*stream, b"after")


async def test_what_needs_a_restart_is_said_each_time(ends: Ends) -> None:
    text = ends.permit(more="[server]\nname = other\n[tox]\ngrace = 5\n[web]\nlisten = 127.0.0.1:0\n")
    for _ in range(2):
        answer = await ends.reload("server", text)
        assert answer["restart"] == ["[tox] grace", "[web]", "[server] name"]
    assert (ends.server.config.tox.grace, ends.server.config.web) == (600, None)


async def test_a_secret_that_was_sent_already_needs_a_restart(ends: Ends) -> None:
    text = ends.forward("echo", ends.echo) + "[access]\nsecret = correct horse battery\n"
    for _ in range(2):
        assert (await ends.reload("client", text))["restart"] == ["[access] secret"]


async def test_a_key_that_is_not_allowed_any_more_loses_its_session_and_comes_back_with_it(
    ends: Ends,
) -> None:
    async with talking(ends.port("echo")) as (reader, writer):
        await says(reader, writer, b"before")
        await ends.reload("server", f"[access]\nallow = {'AB' * 31}0{'B'}\n")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(1), PATIENCE)
    await ends.reload("server", ends.permit())
    await ends.connected()
    async with talking(ends.port("echo")) as stream:
        await says(*stream, b"back")


async def test_a_server_is_left_when_its_last_connection_has_ended(ends: Ends) -> None:
    text = TOX.format(node="none") + f"[access]\nallow = {ends.client.node.public_key.hex()}\n"
    async with Server(config.parse(text, "other"), ends.folder / "other") as other:
        key = other.node.public_key
        mine = ends.forward("echo", ends.echo)
        both = mine.replace("TOXID", str(other.node.tox_id)).replace("echo", "other") + mine
        await ends.reload("client", both)
        assert key in ends.client.node.friends
        async with talking(ends.port("other")):  # it waits for the server
            await ends.reload("client", mine)
            await asyncio.sleep(0.2)
            assert key in ends.client.node.friends
            await ends.reload("client", both)
        await asyncio.sleep(11)  # the connection has given up waiting
        assert key in ends.client.node.friends  # it was wanted again in time
        await ends.reload("client", mine)
        async with asyncio.timeout(PATIENCE):
            while key in ends.client.node.friends:
                await asyncio.sleep(0.05)
        assert len(ends.client.peers()) == 1


async def test_without_a_file_there_is_nothing_to_read_again(ends: Ends) -> None:
    source, ends.client.reloader.source = ends.client.reloader.source, None
    try:
        with pytest.raises(ControlError, match="started without a configuration file"):
            await request(ends.folder / "client", "reload")
    finally:
        ends.client.reloader.source = source
