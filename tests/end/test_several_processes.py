"""Two server processes of one machine and one configuration, and clients that prefer the one or the other.

So docs/scale.md spreads clients over processes.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.asking import request
from tests.inbound.peers import Origin, echo
from toxproxy.demo.network import Process

pytestmark = pytest.mark.timeout(300)

PATIENCE = 90.0  # seconds
TOX = "[tox]\nlocal_discovery = no\nport = 22000-22999\nwait = 60\nbootstrap = {node}\n"
SERVER = "[access]\nsecret = a long pass phrase\npermit = 127.0.0.1:*\n"
CLIENT = """\
[exits]
one = {one}
two = {two}
[secrets]
one = a long pass phrase
two = a long pass phrase
[client]
echo = 0:127.0.0.1:{port}:{order}
"""


async def sessions(server: Process) -> int:
    """How many clients a server has now."""
    status = await request(server.config.parent / "server.state", "status")
    return sum(each["ready"] for each in status["peers"])


async def streams(server: Process) -> int:
    status = await request(server.config.parent / "server.state", "status")
    return sum(each["streams"] for each in status["peers"])


async def talk(client: Process) -> asyncio.StreamWriter:
    """A connection through a client that has answered."""
    (listener,) = client.ready["listeners"]
    host, _, port = listener["address"].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"hello")
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(5) == b"hello"
    return writer


async def test_clients_are_spread_by_their_orders_and_one_process_is_enough_for_all(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(Origin(echo))

        async def start(name: str, folder: str, text: str) -> Process:
            (tmp_path / folder).mkdir()
            process = Process(name, tmp_path / folder)
            stack.push_async_callback(process.stop)
            await process.start(text)
            return process

        node = await start("server", "node", TOX.format(node="none"))
        known = f"127.0.0.1:{node.ready['udp_port']}:{node.ready['dht_key']}"
        servers = [await start("server", name, TOX.format(node=known) + SERVER) for name in ("one", "two")]
        one, two = (each.ready["tox_id"] for each in servers)
        assert one != two
        clients = []
        for name, order in (("near-one", "one,two"), ("near-two", "two,one")):
            text = CLIENT.format(one=one, two=two, port=origin.port, order=order)
            clients.append(await start("client", name, TOX.format(node=known) + text))
        async with asyncio.timeout(PATIENCE):
            while [await sessions(each) for each in servers] != [2, 2]:
                await asyncio.sleep(0.2)
        writers = [await talk(each) for each in clients]
        assert [await streams(each) for each in servers] == [1, 1]
        await servers[0].stop()
        writers += [await talk(each) for each in clients]  # both through the second now
        assert await streams(servers[1]) == 3
        for writer in writers:
            writer.close()
