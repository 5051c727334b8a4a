"""Two exits in order: the first is killed under load, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.datagrams import Client as Datagrams
from tests.datagrams import Service
from tests.datagrams import client as udp_client
from tests.datagrams import service as udp_service
from tests.end.clients import curl, run
from tests.end.test_browser import CHROMIUM
from tests.inbound.http_origin import HttpOrigin
from tests.inbound.peers import Origin, echo
from toxproxy import config
from toxproxy.address import join_host_port
from toxproxy.demo.network import Process
from toxproxy.demo.site import by_socks
from toxproxy.routing.pac import script

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

PATIENCE = 90.0  # seconds
TOX = "[tox]\nlocal_discovery = no\nport = 22000-22999\nwait = 60\nbootstrap = {node}\n"
SERVER = "[access]\nallow = *\npermit = 127.0.0.1:*/tcp+udp\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Scene:
    folder: Path
    home: Process
    office: Process
    client: Process
    echo: int
    datagrams: Service
    origin: HttpOrigin

    @property
    def web(self) -> int:
        return self.origin.port

    async def ask(self, method: str, **params: object) -> Any:
        return await request(self.folder / "client.state", method, **params)

    async def connected(self, server: Process) -> None:
        """Wait until the client is connected to a server."""
        key = server.ready["public_key"]
        async with asyncio.timeout(PATIENCE):
            while True:
                status = await self.ask("status")
                if [each["state"] for each in status["peers"] if each["key"] == key] == ["connected"]:
                    return
                await asyncio.sleep(0.2)

    def address(self, name: str, kind: str = "socks") -> tuple[str, int]:
        wanted = {"name": name, "kind": kind}
        listeners = self.client.ready["listeners"]
        (found,) = (each["address"] for each in listeners if wanted.items() <= each.items())
        return found.rpartition(":")[0], int(found.rpartition(":")[2])

    async def connect(self, port: str = "browser") -> Connection:
        """A connection to the echo service that has answered once."""
        reader, writer = await by_socks(self.address(port), ("127.0.0.1", self.echo)).connect()
        await self.talk((reader, writer))
        return reader, writer

    async def talk(self, connection: Connection) -> None:
        reader, writer = connection
        writer.write(b"hello")
        async with asyncio.timeout(PATIENCE):
            assert await reader.readexactly(5) == b"hello"

    async def exits(self) -> dict[str, str]:
        """Through which server each connection to the echo service goes, by the stream's id."""
        names = {self.home.ready["public_key"]: "home", self.office.ready["public_key"]: "office"}
        streams = (await self.ask("streams"))["streams"]
        port = f":{self.echo}"
        return {each["id"]: names[each["peer_key"]] for each in streams if each["target"].endswith(port)}

    async def exit_of_a_new_one(self, port: str = "browser") -> str:
        before = await self.exits()
        _, writer = await self.connect(port)
        after = await self.exits()
        writer.close()
        (new,) = after.keys() - before.keys()
        return after[new]

    async def received(self, server: Process) -> int:
        """Bytes that came through a server."""
        peers = (await self.ask("status"))["peers"]
        (peer,) = (each for each in peers if each["key"] == server.ready["public_key"])
        return int(peer["traffic"]["received_bytes"])


def node(process: Process) -> str:
    return f"127.0.0.1:{process.ready['udp_port']}:{process.ready['dht_key']}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("exits")
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(Origin(echo))
        datagrams = await stack.enter_async_context(udp_service())
        web = await stack.enter_async_context(HttpOrigin())
        places = [folder / name for name in ("home", "office")]
        for place in places:
            place.mkdir()
        home, office, client = (
            Process("server", places[0]),
            Process("server", places[1]),
            Process("client", folder),
        )
        for process in (office, home, client):
            stack.push_async_callback(process.stop)
        audit = f"[log]\naudit = {places[1] / 'audit'}\n"
        await office.start(TOX.format(node="none") + SERVER + audit)
        await home.start(TOX.format(node=node(office)) + SERVER)
        text = TOX.format(node=node(office)) + (
            f"[exits]\nhome = {home.ready['tox_id']}\noffice = {office.ready['tox_id']}\n"
            f"[client]\ncall = 0:127.0.0.1:{datagrams.target.port}/udp:home,office\n"
            "[socks]\nbrowser = 0:home,office\noffice = 0:office\n"
            f"[route]\n127.0.0.1:{web.port} = direct\n*.lan = reject\n"
            "*.direct.example = direct\n*.office.example = office\n"
        )
        await client.start(text)
        scene = Scene(folder, home, office, client, service.port, datagrams, web)
        await asyncio.gather(scene.connected(home), scene.connected(office))
        yield scene


@pytest_asyncio.fixture(loop_scope="module")
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_the_rules_decide_which_way(scene: Scene) -> None:
    host, port = scene.address("browser")
    before = [await scene.received(server) for server in (scene.home, scene.office)]
    got = await curl("-x", f"socks5h://{host}:{port}", f"http://127.0.0.1:{scene.web}/")
    assert got.status == 0, got.err
    assert [await scene.received(server) for server in (scene.home, scene.office)] == before
    got = await curl("-x", f"socks5h://{host}:{port}", "http://nas.lan/")
    assert got.status == 97  # the proxy's handshake failed
    got = await curl(
        "-x", f"http://{host}:{port}", "-w", "%{http_code}", "-o", "/dev/null", "http://nas.lan/"
    )
    assert got.out == b"403"


async def test_route_says_which_rule_decides(scene: Scene) -> None:
    direct = await scene.ask("route", host="127.0.0.1", port=scene.web)
    assert (direct["kind"], direct["rule"]) == ("direct", f"127.0.0.1:{scene.web}")
    assert (await scene.ask("route", host="nas.lan"))["kind"] == "reject"
    other = await scene.ask("route", host="example.org")
    assert other["rule"] is None
    assert {"port": "browser", "servers": ["home", "office"], "chosen": "home"} in other["ways"]


async def test_a_user_name_and_an_exits_own_port_pick_the_exit(scene: Scene) -> None:
    host, port = scene.address("browser")
    assert await scene.exit_of_a_new_one() == "home"
    assert await scene.exit_of_a_new_one("office") == "office"
    for user, server in (("office", scene.office), ("home", scene.home)):
        before = await scene.received(server)
        got = await curl("-x", f"socks5h://{user}@{host}:{port}", f"http://127.0.0.1:{scene.web}/")
        assert got.status == 0, got.err
        assert await scene.received(server) > before
    got = await curl("-x", f"socks5h://nobody@{host}:{port}", f"http://127.0.0.1:{scene.web}/")
    assert got.status == 97


async def test_chromium_with_the_script_sends_only_what_the_rules_say_through_the_tunnel(
    scene: Scene, tmp_path: Path
) -> None:
    text = script([join_host_port(*scene.address("browser"))], config.load(scene.client.config).routes)
    url = f"data:application/x-ns-proxy-autoconfig;base64,{b64encode(text.encode()).decode()}"
    options = [each for each in CHROMIUM if not each.startswith(("--proxy", "--host-resolver"))]
    options += [
        f"--proxy-pac-url={url}",
        "--host-resolver-rules=MAP *.direct.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ]
    audit = scene.folder / "office" / "audit"

    async def load(place: str) -> bytes:
        user = f"--user-data-dir={tmp_path / place}"
        return (await run("chromium", *options, user, "--dump-dom", f"http://{place}/")).out

    await load(f"www.direct.example:{scene.web}")
    assert (b"host", f"www.direct.example:{scene.web}".encode()) in scene.origin.requests[-1].headers
    assert not [line for line in audit.read_text().splitlines() if "example" in line]
    await load("www.office.example")  # the server permits no such name: it is asked all the same
    targets = {word for word in audit.read_text().split() if word.startswith("target=") and "example" in word}
    assert targets == {"target=www.office.example:80"}


async def answered_again(near: Datagrams, to: tuple[str, int]) -> float:
    """Send datagrams until one is answered. Returns the seconds."""
    begun = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while await near.nothing(0.1):
            near.send(b"meanwhile", to)
    return time.monotonic() - begun


async def test_the_first_exit_is_killed_under_load_and_comes_back(
    scene: Scene, stack: AsyncExitStack
) -> None:
    busy = await scene.connect()
    running = await scene.connect("office")
    near = await stack.enter_async_context(udp_client())
    call = scene.address("call", "udp")
    near.send(b"before", call)
    assert await near.receive() == b"erofeb"

    async def load() -> None:
        with suppress(OSError):
            while True:
                busy[1].write(bytes(100_000))
                await busy[0].readexactly(100_000)

    loading = asyncio.create_task(load())
    await asyncio.sleep(2)
    os.kill(scene.home.pid, signal.SIGKILL)
    killed = time.monotonic()
    moving = asyncio.create_task(answered_again(near, call))
    waits = []
    for _ in range(8):  # those that are made before it is known wait until it is
        begun = time.monotonic()
        _, writer = await scene.connect()
        waits.append((round(begun - killed, 2), round(time.monotonic() - begun, 2)))
        writer.close()
        await asyncio.sleep(0.5)
    print("seconds after the kill, seconds until the answer:", waits)
    moved = await moving
    print("seconds until datagrams went through the second:", round(moved, 2))
    assert moved < 4
    while not await near.nothing(0.2):  # what was asked meanwhile
        pass
    for _ in range(5):  # the flow stays there
        near.send(b"after", call)
        assert await near.receive() == b"retfa"
    assert len({source for _, source in scene.datagrams.seen}) == 2
    assert await scene.exit_of_a_new_one() == "office"
    await scene.talk(running)
    await scene.home.stop()
    scene.home = Process("server", scene.folder / "home")
    await scene.home.start(TOX.format(node=node(scene.office)) + SERVER)
    try:
        await scene.connected(scene.home)
        print("seconds until the first exit is there again:", round(time.monotonic() - killed, 1))
        back = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while await scene.exit_of_a_new_one() != "home":
                await asyncio.sleep(0.5)
        print("seconds until the first exit is used again:", round(time.monotonic() - back, 1))
        assert time.monotonic() - back > 25
        await scene.talk(running)
    finally:
        loading.cancel()
        busy[1].transport.abort()
        running[1].close()
        await scene.home.stop()
