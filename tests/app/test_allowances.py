"""What a client may by its section [client NAME], with a real client, while sections come, change and go."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.joined import connected, node_of
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.snapshots import PeerState
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 30
TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 30\n"
WORDS = "what this client may carry in a month is used up (on the server: quota of its section)"


class Echo(asyncio.DatagramProtocol):
    """Sends every datagram back."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


@dataclass
class Ends:
    """A server whose file is `text` and the section that a test asks for, and the client of that."""

    folder: Path
    text: str
    server: Server
    client: Client
    echo: int
    udp: int

    @property
    def key(self) -> str:
        return self.client.node.public_key.hex().upper()

    async def say(self, *lines: str, name: str = "laptop") -> dict[str, Any]:
        """Have the server read [client NAME] with these lines and the client's key; without any, none."""
        section = "\n".join((f"[client {name}]", f"key = {self.key}", *lines)) if lines else ""
        (self.folder / "server.ini").write_text(f"{self.text}{section}\n")
        answer: dict[str, Any] = await request(self.folder / "server", "reload")
        return answer

    async def may(self, *lines: str) -> None:
        """As `say`, and wait until the client is connected."""
        await self.say(*(lines or ("permit = 127.0.0.1:*/tcp+udp",)))
        await connected(self.client)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.log").read_text().splitlines()]

    async def line_after(self, before: int) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while len(self.lines()) <= before:
                await asyncio.sleep(0.02)
        return self.lines()[before]

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self.client.open_connection("127.0.0.1", self.echo)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("allowances")
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(service(echo))
        transport, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        stack.callback(transport.close)
        text = TOX.format(node="none") + "[access]\npermit = 127.0.0.2:*\ndeny = 127.0.0.3:*\n"
        text += f"[log]\naudit_format = json\naudit = {folder / 'audit.log'}\n"
        (folder / "server.ini").write_text(text)
        server = await stack.enter_async_context(
            Server(config.load(folder / "server.ini"), folder / "server")
        )
        server.reloader.source = lambda: config.load(folder / "server.ini")
        settings = TOX.format(node=node_of(server)) + f"[client]\necho = 0:127.0.0.1:1:{server.node.tox_id}\n"
        client = await stack.enter_async_context(Client(config.parse(settings, "client"), folder / "client"))
        udp = transport.get_extra_info("sockname")[1]
        yield Ends(folder, text, server, client, port, udp)


async def test_a_section_lets_its_client_in_and_says_where_to(ends: Ends) -> None:
    answer = await ends.say("permit = 127.0.0.1:*/tcp+udp, 127.0.0.3:*", "deny = 127.0.0.1:9")
    assert answer["added"] == ["[client laptop]"]
    await connected(ends.client)
    before = len(ends.lines())
    _, writer = await ends.open()
    writer.close()
    line = await ends.line_after(before)
    assert (line["client_name"], line["verdict"]) == ("laptop", "permitted")
    assert line["rule"] == "127.0.0.1:*/tcp+udp"
    for host, port, rule in (
        ("127.0.0.1", 9, "127.0.0.1:9"),
        ("127.0.0.2", 80, None),
        ("127.0.0.3", 80, "127.0.0.3:*"),
    ):
        before = len(ends.lines())
        with pytest.raises(StreamRefused) as caught:
            await ends.client.open_connection(host, port)
        assert caught.value.code is Refusal.NOT_PERMITTED
        assert caught.value.text == "not permitted (on the server: permit of this client's section)"
        line = await ends.line_after(before)
        assert (line["verdict"], line["rule"], line["refusal"]) == ("denied", rule, "not_permitted")


async def test_what_changes_touches_no_open_stream(ends: Ends) -> None:
    await ends.may()
    reader, writer = await ends.open()
    assert (await ends.say("permit = 127.0.0.2:*", "rate = 8K"))["changed"] == [
        "[client laptop] permit",
        "[client laptop] rate",
    ]
    with pytest.raises(StreamRefused):
        await ends.open()
    writer.write(b"still here")
    assert await reader.readexactly(10) == b"still here"
    writer.close()


async def test_bytes_are_whole_at_any_rate_and_go_on_when_it_changes(ends: Ends) -> None:
    await ends.may("permit = 127.0.0.1:*", "rate = 1M/500K")
    data = os.urandom(1 << 20)
    reader, writer = await ends.open()
    writer.write(data)
    assert await asyncio.wait_for(reader.readexactly(300_000), PATIENCE) == data[:300_000]
    await ends.say("permit = 127.0.0.1:*", "rate = 16K")  # what is left would take half a minute
    small_reader, small_writer = await ends.open()
    small_writer.write(b"x")
    assert await asyncio.wait_for(small_reader.readexactly(1), PATIENCE) == b"x"
    small_writer.close()
    await ends.say("permit = 127.0.0.1:*", "quota = 1G")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), PATIENCE) == data[300_000:]
    writer.close()


async def test_a_client_sends_little_more_than_its_rate_lets_pass(ends: Ends) -> None:
    await ends.may("permit = 127.0.0.1:*", "rate = 16M/64K")
    reader, writer = await ends.open()
    writer.write(bytes(1 << 20))
    await asyncio.wait_for(reader.readexactly(40_000), PATIENCE)
    (friend,) = ends.server._friends.values()
    (stream,) = friend.streams
    receiver = stream.stream.receiver
    assert receiver.size == 16 * 1024
    assert receiver.carried - receiver.consumed <= 16 * 1024
    writer.transport.abort()


async def test_a_used_quota_ends_what_runs_and_refuses_the_rest(ends: Ends) -> None:
    await ends.may("permit = 127.0.0.1:*/tcp+udp", "quota = 1G")
    before = len(ends.lines())
    reader, writer = await ends.open()
    writer.write(bytes(100_000))
    await asyncio.wait_for(reader.readexactly(100_000), PATIENCE)
    flow = await ends.client.open_datagram("127.0.0.1", ends.udp)
    flow.send(b"ping")
    assert await asyncio.wait_for(flow.receive(), PATIENCE) == b"ping"
    told = await request(ends.folder / "server", "clients")
    allowance = told["clients"][0]["allowance"]
    assert allowance["quota_bytes"] == 1 << 30
    assert allowance["used_bytes"] >= 200_008
    await ends.say("permit = 127.0.0.1:*/tcp+udp", "quota = 150K")  # that much was used already
    with pytest.raises(StreamReset) as caught:
        await asyncio.wait_for(reader.read(), PATIENCE)
    assert caught.value.code is ResetCode.QUOTA_USED
    with pytest.raises(StreamReset) as caught:
        await asyncio.wait_for(flow.receive(), PATIENCE)
    assert caught.value.code is ResetCode.QUOTA_USED
    await ends.line_after(before + 1)
    assert [line["end"] for line in ends.lines()[before:]] == ["quota_used", "quota_used"]
    before = len(ends.lines())
    with pytest.raises(StreamRefused) as refused:
        await ends.open()
    assert (refused.value.code, refused.value.text) == (Refusal.QUOTA_USED, WORDS)
    with pytest.raises(StreamRefused) as refused:
        await ends.client.open_datagram("127.0.0.1", ends.udp)
    assert refused.value.code is Refusal.QUOTA_USED
    await ends.line_after(before + 1)
    assert [line["refusal"] for line in ends.lines()[before:]] == ["quota_used"] * 2
    await ends.say("permit = 127.0.0.1:*/tcp+udp", "quota = 1G")
    _, writer = await ends.open()
    writer.close()


async def test_a_stream_ends_when_it_uses_the_last_of_the_quota(ends: Ends) -> None:
    await ends.may("permit = 127.0.0.1:*", "quota = 1G")
    used = (await request(ends.folder / "server", "clients"))["clients"][0]["allowance"]["used_bytes"]
    await ends.say("permit = 127.0.0.1:*", f"quota = {used + 1_000_000}")
    reader, writer = await ends.open()
    came = 0

    async def read() -> None:
        nonlocal came
        while data := await reader.read(65536):
            came += len(data)

    reading = asyncio.create_task(read())
    with suppress(ConnectionError):
        while not reading.done():
            writer.write(bytes(10_000))
            await writer.drain()
            await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reading, PATIENCE)
    assert came < 1_000_000
    allowance = (await request(ends.folder / "server", "clients"))["clients"][0]["allowance"]
    assert 0 <= allowance["used_bytes"] - allowance["quota_bytes"] < 1_000_000


async def test_what_was_used_is_known_after_a_restart(ends: Ends, tmp_path: Path) -> None:
    section = f"[client laptop]\nkey = {ends.key}\nquota = 1K\n"
    settings = config.parse(TOX.format(node="none") + section, "server")
    async with Server(settings, tmp_path / "server") as server:
        server._allowances.meter(ends.client.node.public_key).down.passed(2000, list)
        (client,) = (await request(tmp_path / "server", "clients"))["clients"]
        assert client["allowance"]["used_bytes"] == 2000
    async with Server(settings, tmp_path / "server") as server:
        with pytest.raises(StreamRefused):
            server._allowances.check(ends.client.node.public_key)


async def test_its_time_ends_the_session_within_a_second(ends: Ends) -> None:
    await ends.may()
    reader, _ = await ends.open()
    over = int(time.time()) + 3
    date = time.strftime("%Y-%m-%d %H:%M:%S Z", time.gmtime(over))
    await ends.say("permit = 127.0.0.1:*", f"expires = {date}")
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    assert over <= time.time() < over + 1
    (client,) = (await request(ends.folder / "server", "clients"))["clients"]
    assert (client["name"], client["admission"], client["expires_unix_s"]) == ("laptop", "expired", over)
    await asyncio.sleep(1)
    assert ends.client.peers()[0].state is not PeerState.CONNECTED
    await ends.may()


async def test_the_name_and_the_allowance_are_in_the_status(ends: Ends) -> None:
    await ends.may("rate = 2M/500K", "quota = 50G", "expires = 2099-12-31 00:00Z")
    (peer,) = (await request(ends.folder / "server", "status"))["peers"]
    assert peer["name"] == "laptop"
    assert peer["allowance"].pop("used_bytes") >= 0
    assert peer["allowance"] == {
        "down_bytes_per_s": 2 << 20,
        "up_bytes_per_s": 500 << 10,
        "quota_bytes": 50 << 30,
        "expires_unix_s": 4102358400,
    }


async def test_a_section_that_is_gone_takes_its_client_with_it(ends: Ends) -> None:
    await ends.may()
    reader, _ = await ends.open()
    assert (await ends.say())["removed"] == ["[client laptop]"]
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(reader.read(), PATIENCE)
    assert (await request(ends.folder / "server", "clients"))["clients"] == []
