"""Two ends on loopback that are really connected, each with its page, and a client that waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from tests.joined import connected, node_of
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.system.state import StateFolder
from toxproxy.web.server import WebServer

PATIENCE = 60
SECRET = "correct horse battery staple"
PAUSE, CHUNK = 0.05, 20_000  # the download has 400 kB a second

_TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 25000-25999\nwait = 60\n"
_WEB = "[web]\nlisten = 127.0.0.1:0\nsecret = {secret}\n"


@dataclass
class Answer:
    """A response, read to its end."""

    status: int
    headers: Any
    text: str


@dataclass
class Site:
    """The ends, and the addresses of their pages. `stranger` waits to be let in by `server`."""

    server: Server
    client: Client
    stranger: Client
    server_page: str
    client_page: str
    http: aiohttp.ClientSession = field(repr=False)

    async def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        page: str | None = None,
        secret: str | None = SECRET,
        **options: Any,
    ) -> Answer:
        """A request to the client's page, or to `page`."""
        headers = dict(options.pop("headers", {}))
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        url = (page or self.client_page) + path
        async with self.http.request(
            method, url, headers=headers, allow_redirects=False, **options
        ) as response:
            return Answer(response.status, response.headers, await response.text())

    def forward(self, name: str) -> tuple[str, int]:
        """Where a listener of the client listens."""
        (address,) = (each.address for each in self.client.listening() if each.name == name)
        host, _, port = address.rpartition(":")
        return host, int(port)

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection through the tunnel to an echo service."""
        reader, writer = await asyncio.open_connection(*self.forward("echo"))
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), PATIENCE) == b"hello"
        try:
            yield reader, writer
        finally:
            writer.close()

    async def idle(self) -> None:
        """Wait until no stream is left."""
        async with asyncio.timeout(PATIENCE):
            while await self.streams():
                await asyncio.sleep(0.05)

    async def streams(self) -> list[dict[str, Any]]:
        """The client's."""
        found: Any = await self.client.methods["streams"]({})  # type: ignore[misc]
        return list(found["streams"])


async def steady(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A download at a steady rate, until the other side hangs up."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        writer.write(bytes(CHUNK))
        await writer.drain()
        due += PAUSE
        await asyncio.sleep(max(0, due - loop.time()))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Site]:
    logging.getLogger("toxproxy").setLevel(logging.INFO)
    web = _WEB.format(secret=SECRET)
    text = f"{_TOX.format(node='none')}{web}[access]\npermit = 127.0.0.1:*\ndeny = 127.0.0.1:9\n"
    async with (
        service(echo) as echoing,
        service(steady) as flowing,
        Server(config.parse(text, "server.ini"), StateFolder(folder / "server")) as server,
    ):
        node = node_of(server)
        tox_id = server.node.tox_id
        text = f"{_TOX.format(node=node)}{web}[socks]\nbrowser = 0:{tox_id}\n[client]\n"
        text += f"echo = 0:127.0.0.1:{echoing}:{tox_id}\nflow = 0:127.0.0.1:{flowing}:{tox_id}\n"
        settings = config.parse(text, "client.ini")
        async with (
            Client(settings, StateFolder(folder / "client")) as client,
            Client(settings, StateFolder(folder / "stranger")) as stranger,
            WebServer(server, _settings(server)) as of_server,
            WebServer(client, _settings(client)) as of_client,
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http,
        ):
            await server.methods["allow"](  # type: ignore[misc]
                {"key": client.node.public_key.hex(), "name": "<b onclick=alert(1)>laptop</b>"}
            )
            await connected(client)
            async with asyncio.timeout(PATIENCE):
                while not server.access.waiting:
                    await asyncio.sleep(0.05)
            yield Site(server, client, stranger, _url(of_server), _url(of_client), http)


def _settings(end: Server | Client) -> Any:
    assert end.config.web is not None
    return end.config.web


def _url(ready: Any) -> str:
    return f"http://{ready['web'][0]}"
