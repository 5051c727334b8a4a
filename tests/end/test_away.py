"""What both ends report about a peer that is away while connections wait for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.end.world import Pair, Services
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.demo.site import by_socks
from toxproxy.program.report import statuses
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tunnel.friend import Friend, Phase

pytestmark = pytest.mark.asyncio(loop_scope="session")

Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def only_friend(end: Client | Server) -> Friend:
    (friend,) = end._friends.values()
    return friend


@pytest_asyncio.fixture(loop_scope="session")
async def talk(pair: Pair, services: Services) -> AsyncIterator[Talk]:
    """The only connection through the pair. It has been used once."""
    async with asyncio.timeout(30):
        while pair.server.streams or pair.client.streams:
            await asyncio.sleep(0.01)
    reader, writer = await by_socks(pair.proxy, ("127.0.0.1", services.echo.port)).connect()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    yield reader, writer
    writer.close()


def part(pair: Pair) -> None:
    """Have Tox report to both ends that the other is lost."""
    for end in (pair.server, pair.client):
        end.friend_connection_changed(only_friend(end)._number, ConnectionStatus.NONE)


async def meet(pair: Pair) -> None:
    """Have Tox report to both ends that the other is found again."""
    for end in (pair.server, pair.client):
        end.friend_connection_changed(only_friend(end)._number, ConnectionStatus.UDP)
    async with asyncio.timeout(30):
        while not all(only_friend(end).phase is Phase.READY for end in (pair.server, pair.client)):
            await asyncio.sleep(0.01)


async def test_a_peer_that_is_away_and_comes_back(
    pair: Pair, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "toxproxy.app")
    reader, writer = talk
    part(pair)
    assert statuses(pair.client.status()) == [(Phase.ABSENT, "the server is away; 1 connection waits for it")]
    await meet(pair)
    writer.write(b"again")
    assert await reader.readexactly(5) == b"again"
    ((phase, text),) = statuses(pair.client.status())
    assert phase is Phase.READY
    assert text.startswith("connected to the server, direct")
    assert lines(caplog) == [
        "is away; 1 connection waits for it, for up to 600 s",
        "is back, direct; its connections go on",
    ]


async def test_a_peer_that_comes_back_restarted(
    pair: Pair, talk: Talk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "toxproxy.app")
    part(pair)
    only_friend(pair.client)._expire()
    assert statuses(pair.client.status()) == [(Phase.ABSENT, "the server is gone; looking for it")]
    await meet(pair)
    assert lines(caplog) == [
        "is away; 1 connection waits for it, for up to 600 s",
        "left; its connections are closed",
        "connected, direct",
    ]
    with pytest.raises(ConnectionResetError):
        await talk[0].readexactly(1)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server has logged about its only client."""
    said = (message.split(" ", 2) for message in caplog.messages)
    return [words[2] for words in said if words[0] == "client"]
