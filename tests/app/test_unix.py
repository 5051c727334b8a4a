"""Unix sockets at either side of a forward, with curl and a small HTTP server on one."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.asking import request
from tests.end.clients import curl
from tests.joined import connected, node_of
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.messages import ControlError

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 10\n"
PAGE = b'{"Version": "27.0"}'


async def docker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As the daemon answers: a page for GET; for POST a connection that is upgraded, and half-closed."""
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"POST"):
        writer.write(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        writer.write(await reader.read())
    else:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(PAGE), PAGE)
        )
    writer.close()


@dataclass
class Ends:
    folder: Path
    server: Server
    client: Client
    tcp: int

    def write(self, forwards: str) -> None:
        tox = TOX.format(node=node_of(self.server))
        text = f"{tox}[exits]\nhome = {self.server.node.tox_id}\n[client]\n{forwards}"
        (self.folder / "client.ini").write_text(text.replace("FOLDER", str(self.folder)))

    async def reload(self, forwards: str) -> None:
        self.write(forwards)
        await request(self.folder / "client", "reload")

    def port(self, name: str) -> int:
        (address,) = (each.address for each in self.client.listening() if each.name == name)
        return int(address.rpartition(":")[2])


BOTH = """\
out = unix:FOLDER/out.sock:127.0.0.1:TCP:home
docker = 0:unix:FOLDER/docker.sock:home
both = unix:FOLDER/both.sock,mode=660:unix:FOLDER/docker.sock:home
other = 0:unix:FOLDER/other.sock:home
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("unix")
    async with AsyncExitStack() as stack:
        for name in ("docker", "other"):
            await stack.enter_async_context(await asyncio.start_unix_server(docker, folder / f"{name}.sock"))
        tcp = await stack.enter_async_context(await asyncio.start_server(docker, "127.0.0.1", 0))
        permit = f"127.0.0.1:*, unix:{folder}/docker.sock\n[log]\naudit_format = json\naudit = {folder}/audit"
        text = TOX.format(node="none") + f"[access]\nallow = *\npermit = {permit}\n"
        server = await stack.enter_async_context(Server(config.parse(text, "server"), folder / "server"))
        ends = Ends(folder, server, None, tcp.sockets[0].getsockname()[1])  # type: ignore[arg-type]
        ends.write(BOTH.replace("TCP", str(ends.tcp)))
        ends.client = Client(config.load(folder / "client.ini"), folder / "client")
        ends.client.reloader.source = lambda: config.load(folder / "client.ini")
        await stack.enter_async_context(ends.client)
        await connected(ends.client)
        yield ends


async def test_curl_through_each_side(ends: Ends) -> None:
    ways = (
        ("--unix-socket", str(ends.folder / "out.sock"), "http://docker/version"),
        ("--unix-socket", str(ends.folder / "both.sock"), "http://docker/version"),
        (f"http://127.0.0.1:{ends.port('docker')}/version",),
    )
    for way in ways:
        got = await curl(*way)
        assert (got.status, got.out) == (0, PAGE), got.err


async def test_a_half_close_passes_from_one_unix_socket_to_the_other(ends: Ends) -> None:
    reader, writer = await asyncio.open_unix_connection(ends.folder / "both.sock")
    writer.write(b"POST /attach HTTP/1.1\r\nHost: docker\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    writer.write(b"x" * 200_000)
    writer.write_eof()
    assert await reader.read() == b"x" * 200_000
    writer.close()


async def test_the_modes_of_the_files(ends: Ends) -> None:
    modes = {name: stat.S_IMODE(os.stat(ends.folder / name).st_mode) for name in ("out.sock", "both.sock")}
    assert modes == {"out.sock": 0o600, "both.sock": 0o660}


async def test_a_socket_that_no_rule_names_is_refused_and_audited(ends: Ends) -> None:
    got = await curl(f"http://127.0.0.1:{ends.port('other')}/version")
    assert got.status != 0
    lines = [json.loads(line) for line in (ends.folder / "audit").read_text().splitlines()]
    (line,) = (line for line in lines if line["target"] == f"unix:{ends.folder}/other.sock")
    assert (line["verdict"], line["end"], line["refusal"]) == ("denied", "refused", "not_permitted")
    (line, *_) = (line for line in lines if line["target"] == f"unix:{ends.folder}/docker.sock")
    assert (line["verdict"], line["rule"]) == ("permitted", f"unix:{ends.folder}/docker.sock")


async def test_they_come_and_go_with_a_reload(ends: Ends) -> None:
    usual = BOTH.replace("TCP", str(ends.tcp))
    await ends.reload(usual + "new = unix:FOLDER/new.sock:127.0.0.1:80:home\n")
    assert (ends.folder / "new.sock").exists()
    await ends.reload(usual)
    assert not (ends.folder / "new.sock").exists()
    (ends.folder / "precious").write_text("precious")
    with pytest.raises(ControlError, match="there is a file that is no socket of this user"):
        await ends.reload(usual + "new = unix:FOLDER/precious:127.0.0.1:80:home\n")
    assert (ends.folder / "precious").read_text() == "precious"
    got = await curl("--unix-socket", str(ends.folder / "out.sock"), "http://docker/version")
    assert got.out == PAGE
