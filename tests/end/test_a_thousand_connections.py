"""More connections at the same time than ENet has channels."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator

import pytest

from tests.end.services import Gathering
from tests.end.world import Address, Pair, soft_limit
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.site import by_socks
from toxproxy.link.enet import EnetLink

pytestmark = pytest.mark.asyncio(loop_scope="session")

THOUSAND = 1000


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Raise the limit of open files: both ends of every connection are in this process."""
    with soft_limit():
        yield


async def ask_all(proxy: Address, gathering: Gathering) -> None:
    """Ask on as many connections as the service waits for. Check every answer."""

    async def ask() -> None:
        question = os.urandom(16).hex().encode() + b"\n"
        reader, writer = await by_socks(proxy, ("127.0.0.1", gathering.port)).connect()
        try:
            writer.write(question)
            assert await reader.read() == hashlib.sha256(question).digest()
        finally:
            writer.close()

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for _ in range(THOUSAND):
            group.create_task(ask())


async def test_a_thousand_connections_at_once_are_all_answered(network: PrivateNetwork) -> None:
    async with Gathering(THOUSAND) as gathering:
        await ask_all(network.listener("browser"), gathering)


async def test_a_thousand_connections_share_one_enet_connection(pair: Pair) -> None:
    ends = pair.client, pair.server
    before = [link(end) for end in ends]
    async with Gathering(THOUSAND) as gathering:
        asking = asyncio.create_task(ask_all(pair.proxy, gathering))
        async with asyncio.timeout(60):
            await gathering.complete.wait()
        assert (pair.client.streams, pair.server.streams) == (THOUSAND, THOUSAND)
        await asking
    assert [link(end) for end in ends] == before  # still the same links


def link(end: Client | Server) -> EnetLink | None:
    """The link to the only friend."""
    (friend,) = end._friends.values()
    return friend.carrier.link
