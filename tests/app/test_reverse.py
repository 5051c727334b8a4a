"""The other direction from end to end: real nodes. A server listens, and what comes leaves at the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.datagrams import client, service
from tests.inbound.http_origin import HttpOrigin
from tests.joined import connected, node_of
from tests.ports import unused_port
from tests.tunnel.ends import echo
from tests.tunnel.ends import service as tcp_service
from toxproxy import config
from toxproxy.address import Target
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.snapshots import ListenerKind, ListenerSnapshot, ListenerState
from toxproxy.demo.site import by_socks
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.mux import frames

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 30\n"
PATIENCE = 40.0  # seconds


@dataclass
class Ends:
    folder: Path
    server: Server
    client: Client
    echo: int
    ports: dict[str, int] = field(default_factory=dict)

    def line(self, name: str) -> ListenerSnapshot:
        (found,) = (each for each in self.client.status().listeners if each.name == name)
        return found

    async def becomes(self, name: str, state: ListenerState) -> ListenerSnapshot:
        async with asyncio.timeout(PATIENCE):
            while self.line(name).state is not state:
                await asyncio.sleep(0.05)
        return self.line(name)

    def for_client(self) -> list[ListenerSnapshot]:
        return list(self.server.status().listeners)

    async def reload_client(self, text: str) -> None:
        await self.client.reload(config.parse(self.tox + text.replace("TOXID", self.id), "client.ini"))

    async def permit(self, listen: str) -> None:
        """Have the server permit something else to the client."""
        await self.server.reload(config.parse(self.server_text(listen), "server.ini"))

    def server_text(self, listen: str) -> str:
        section = f"[client laptop]\nkey = {self.key}\n" + (f"listen = {listen}\n" if listen else "")
        audit = f"[log]\naudit_format = json\naudit = {self.folder / 'server.log'}\n"
        return (
            TOX.format(node="none")
            + f"[access]\nallow = *\npermit = 127.0.0.1:{self.echo}\n"
            + audit
            + section
        )

    @property
    def id(self) -> str:
        return str(self.server.node.tox_id)

    @property
    def key(self) -> str:
        return self.client.node.public_key.hex()

    @property
    def tox(self) -> str:
        audit = f"[log]\naudit_format = json\naudit = {self.folder / 'client.log'}\n"
        return TOX.format(node=node_of(self.server)) + audit + f"[exits]\nhome = {self.id}\n"

    def records(self, which: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / f"{which}.log").read_text().splitlines()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("reverse")
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(tcp_service(echo))
        text = TOX.format(node="none") + "[access]\nallow = *\n"
        server = await stack.enter_async_context(Server(config.parse(text, "server"), folder / "server"))
        text = TOX.format(node=node_of(server)) + f"[exits]\nhome = {server.node.tox_id}\n"
        near = await stack.enter_async_context(Client(config.parse(text, "client"), folder / "client"))
        await connected(near)
        yield Ends(folder, server, near, port)


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def nothing_left(ends: Ends) -> AsyncIterator[None]:
    yield
    await ends.reload_client("")
    async with asyncio.timeout(PATIENCE):
        while ends.for_client():
            await asyncio.sleep(0.02)


async def talk(port: int, said: bytes = b"hello") -> None:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert await reader.readexactly(len(said)) == said
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_nothing_listens_until_the_server_permits_it(ends: Ends) -> None:
    await ends.permit("")
    port = unused_port()
    await ends.reload_client(f"[reverse]\nweb = {port}:127.0.0.1:{ends.echo}:home\n")
    refused = await ends.becomes("web", ListenerState.REFUSED)
    assert (refused.refusal, refused.address) == ("not_permitted", f"127.0.0.1:{port}")
    assert "[client NAME] listen" in (refused.detail or "")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await ends.permit(f"127.0.0.1:{port + 1}, 127.0.0.2:{port}, 127.0.0.1:{port}/udp")
    await asyncio.sleep(2)
    assert ends.line("web").state is ListenerState.REFUSED
    await ends.permit(f"127.0.0.1:{port}")
    there = await ends.becomes("web", ListenerState.LISTENING)
    assert there.kind is ListenerKind.REVERSE
    await talk(port)
    (here,) = ends.for_client()
    assert (here.kind, here.address, here.accepted) == (ListenerKind.FOR_CLIENT, f"127.0.0.1:{port}", 1)
    assert (ends.line("web").accepted, ends.line("web").target) == (1, f"127.0.0.1:{ends.echo}")


async def test_what_is_not_permitted_any_more_ends_and_what_came_in_goes_on(ends: Ends) -> None:
    port = unused_port()
    await ends.permit(f"127.0.0.1:{port}")
    await ends.reload_client(f"[reverse]\nweb = {port}:127.0.0.1:{ends.echo}:TOXID\n")
    await ends.becomes("web", ListenerState.LISTENING)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"before")
    assert await reader.readexactly(6) == b"before"
    await ends.permit("")
    await ends.becomes("web", ListenerState.REFUSED)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"after")
    assert await reader.readexactly(5) == b"after"
    writer.close()


async def test_where_it_leaves_there_is_an_audit(ends: Ends) -> None:
    port, dead = unused_port(), unused_port()
    await ends.permit("127.0.0.1:*")
    await ends.reload_client(
        f"[reverse]\nweb = {port}:127.0.0.1:{ends.echo}:home\ndead = 0:127.0.0.1:{dead}:home\n"
    )
    await ends.becomes("web", ListenerState.LISTENING)
    there = await ends.becomes("dead", ListenerState.LISTENING)
    await talk(port, b"x" * 1000)
    reader, _ = await asyncio.open_connection("127.0.0.1", int(there.address.rpartition(":")[2]))
    with pytest.raises(ConnectionResetError):
        await reader.read()
    async with asyncio.timeout(PATIENCE):
        while len(ends.records("client")) < 2 or not ends.line("dead").refused:
            await asyncio.sleep(0.05)
    done, refused = ends.records("client")[-2:]
    assert done["server_key"] == ends.server.node.public_key.hex().upper()
    assert (done["server_name"], done["target"], done["end"]) == (
        "home",
        f"127.0.0.1:{ends.echo}",
        "finished",
    )
    assert (done["to_server_bytes"], done["to_target_bytes"]) == (1000, 1000)
    assert done["rule"] == f"127.0.0.1:{ends.echo}"
    assert (refused["end"], refused["refusal"]) == ("refused", "connection_refused")


async def test_datagrams(ends: Ends) -> None:
    async with service(lambda data, _: data[::-1]) as far:
        await ends.permit("127.0.0.1:*/tcp+udp")
        port = unused_port()
        await ends.reload_client(f"[reverse]\nboth = {port}:127.0.0.1:{far.target.port}/udp:home\n")
        await ends.becomes("both", ListenerState.LISTENING)
        assert [each.address for each in ends.for_client()] == [f"127.0.0.1:{port}/udp"]
        async with client() as near:
            near.send(b"abc", ("127.0.0.1", port))
            async with asyncio.timeout(PATIENCE):
                assert await near.receive() == b"cba"
        assert ends.line("both").accepted == 1


async def test_a_unix_socket_at_either_side(ends: Ends, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    server = await asyncio.start_unix_server(echo, here)
    async with server:
        await ends.permit(f"unix:{there}")
        await ends.reload_client(f"[reverse]\nsock = unix:{there}:unix:{here}:home\n")
        assert (await ends.becomes("sock", ListenerState.LISTENING)).address == f"unix:{there}"
        assert there.stat().st_mode & 0o777 == 0o600
        reader, writer = await asyncio.open_unix_connection(there)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
    await ends.reload_client("")
    async with asyncio.timeout(PATIENCE):
        while there.exists():
            await asyncio.sleep(0.02)


async def test_a_proxy_port_leads_where_permit_says(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    async with HttpOrigin() as origin:
        await ends.reload_client(
            f"[reverse]\nway = socks:0:home\npermit = 127.0.0.1:{origin.port}, 127.0.0.1:{ends.echo}\n"
        )
        there = await ends.becomes("way", ListenerState.LISTENING)
        proxy = "127.0.0.1", int(there.address.rpartition(":")[2])
        reader, writer = await by_socks(proxy, ("127.0.0.1", ends.echo)).connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        reader, writer = await asyncio.open_connection(*proxy)
        writer.write(
            b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % origin.port
        )
        answer = await reader.read()
        assert b" 200 " in answer.partition(b"\r\n")[0]
        writer.close()
        async with asyncio.timeout(PATIENCE):
            while ends.records("client")[-1]["target"] != f"127.0.0.1:{origin.port}":
                await asyncio.sleep(0.05)
        record = ends.records("client")[-1]
        assert (record["end"], record["rule"]) == ("finished", f"127.0.0.1:{origin.port}")
        assert record["to_server_bytes"] > 0
        assert record["to_target_bytes"] > 0
        reader, writer = await asyncio.open_connection(*proxy)
        writer.write(b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: x\r\n\r\n" % unused_port())
        assert b" 403 " in await reader.readline()
        writer.close()
        reader, writer = await asyncio.open_connection(*proxy)
        writer.write(b"\x05\x01\x00" + b"\x05\x03\x00\x01\0\0\0\0\0\0")  # UDP ASSOCIATE
        assert (await reader.readexactly(4))[:4] == b"\x05\x00\x05\x07"  # not supported
        writer.close()


async def test_private_addresses_are_closed_to_a_proxy_port_without_a_permit(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    await ends.reload_client("[reverse]\nway = socks:0:home\n")
    there = await ends.becomes("way", ListenerState.LISTENING)
    for host in ("127.0.0.1", "10.0.0.1", "169.254.169.254"):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(there.address.rpartition(":")[2]))
        writer.write(b"CONNECT %s:80 HTTP/1.1\r\nHost: x\r\n\r\n" % host.encode())
        assert b" 403 " in await reader.readline()
        writer.close()


async def test_an_address_that_is_taken_is_said(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    await ends.reload_client(f"[reverse]\nweb = {ends.echo}:127.0.0.1:{ends.echo}:home\n")
    refused = await ends.becomes("web", ListenerState.REFUSED)
    assert refused.refusal == "address_in_use"
    assert "address already in use" in (refused.detail or "")


async def test_a_line_that_changes_takes_over_its_address(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    port = unused_port()
    async with tcp_service(_says(b"second")) as second:
        await ends.reload_client(f"[reverse]\nweb = {port}:127.0.0.1:{ends.echo}:home\n")
        await ends.becomes("web", ListenerState.LISTENING)
        await talk(port)
        await ends.reload_client(f"[reverse]\nweb = {port}:127.0.0.1:{second}:home\n")
        await ends.becomes("web", ListenerState.LISTENING)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await reader.read() == b"second"
        writer.close()


def _says(what: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        writer.close()

    return say


async def test_a_program_is_served_through_the_server(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.write(b"answer\n")
        writer.close()

    async with await ends.client.start_server(answer) as there:
        (address,) = there.addresses
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"question\n")
        assert await reader.read() == b"answer\n"
        writer.close()
        await ends.client.reload(ends.client.config)  # which has no such line
        assert there.addresses == (address,)
    assert asked == [b"question\n"]
    await ends.permit("")
    with pytest.raises(StreamRefused) as refused:
        await ends.client.start_server(answer, "*", 8080)
    assert refused.value.code is Refusal.NOT_PERMITTED
    with pytest.raises(ValueError, match="localhost"):
        await ends.client.start_server(answer, "localhost")
    assert [each.name for each in ends.client.status().listeners] == []


async def test_the_server_reaches_nothing_that_was_not_named(ends: Ends) -> None:
    (friend,) = ends.server._friends.values()
    for host in ("127.0.0.1", "listener:1", "listener:99999999999", "listener:", "listen:tcp:127.0.0.1:0"):
        with pytest.raises(StreamRefused) as refused:
            await friend.dial(asyncio.Protocol, Target(host, ends.echo))
        assert refused.value.code is Refusal.NOT_PERMITTED


async def test_a_client_that_asks_without_end_gets_a_few(ends: Ends) -> None:
    await ends.permit("127.0.0.1:*")
    (friend,) = ends.client._friends.values()
    transports = []
    for _ in range(300):
        assert friend.session is not None
        transport, _ = await friend.session.dial(
            asyncio.Protocol, Target("listen:tcp:127.0.0.1:0", 1), early=True
        )
        transports.append(transport)
    async with asyncio.timeout(PATIENCE):
        while len(ends.for_client()) < 64 or sum(not each.is_closing() for each in transports) > 64:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)
    assert len(ends.for_client()) == 64
    for each in transports:
        each.abort()


async def test_the_status_and_the_doctor_say_why_nothing_listens(ends: Ends) -> None:
    await ends.permit("")
    await ends.reload_client(f"[reverse]\nweb = 8080:127.0.0.1:{ends.echo}:home\n")
    await ends.becomes("web", ListenerState.REFUSED)
    status = await request(ends.folder / "client", "status")
    found = [(each["kind"], each["listener"]) for each in status["findings"]]
    assert ("not_listened", "web") in found
    checks = (await request(ends.folder / "client", "checkup"))["checks"]
    (found,) = (each for each in checks if each["kind"] == "reverse")
    assert (found["fault"], found["about"]) == ("listen_forbidden", "127.0.0.1:8080 (web)")


async def test_a_server_of_an_older_version_is_not_asked(ends: Ends) -> None:
    (friend,) = ends.client._friends.values()
    assert friend.session is not None
    mux = friend.session.multiplexer
    assert mux.peer is not None
    now = mux.peer
    mux.peer = now._replace(features=now.features & ~frames.LISTENS)
    try:
        await ends.reload_client(f"[reverse]\nweb = 8080:127.0.0.1:{ends.echo}:home\n")
        refused = await ends.becomes("web", ListenerState.REFUSED)
    finally:
        mux.peer = now
    assert refused.refusal == "unsupported"
    assert "upgrade it" in (refused.detail or "")


async def test_a_client_that_is_shut_out_has_no_listener(ends: Ends) -> None:
    port = unused_port()
    await ends.permit(f"127.0.0.1:{port}")
    await ends.reload_client(f"[reverse]\nweb = {port}:127.0.0.1:{ends.echo}:home\n")
    await ends.becomes("web", ListenerState.LISTENING)
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    await request(ends.folder / "server", "block", key=ends.key)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert ends.for_client() == []
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
