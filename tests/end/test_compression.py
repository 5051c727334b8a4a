"""Compression between a real client and server."""

from __future__ import annotations

import asyncio

import pytest

from tests.end.world import Pair, Services
from toxproxy.address import Target
from toxproxy.tunnel.friend import Friend

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXT = b"".join(b"%d: the same as every other line, but for the number\n" % n for n in range(20_000))


async def test_a_connection_is_compressed_if_its_dialer_wants_it(pair: Pair, services: Services) -> None:
    friend = pair.client.dialer()
    assert isinstance(friend, Friend)
    packets = {}

    def sent() -> int:
        assert friend.session is not None
        return friend.session.recovery.flight.next_number

    for compress in (True, False):
        reader = asyncio.StreamReader()
        before = sent()
        transport, _ = await friend.dial(
            lambda reader=reader: asyncio.StreamReaderProtocol(reader),  # type: ignore[misc]
            Target("127.0.0.1", services.echo.port),
            compress=compress,
        )
        transport.write(TEXT)
        transport.write_eof()
        async with asyncio.timeout(20):
            assert await reader.read(-1) == TEXT
        packets[compress] = sent() - before
    assert packets[True] < packets[False] / 2
