"""An unknown client at a server that lets in nobody yet."""

from __future__ import annotations

import asyncio

import pytest

from tests.end.world import Door, Services

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_an_unknown_client_gets_nowhere_until_it_is_allowed(door: Door, services: Services) -> None:
    assert door.first is not None
    command = await door.client_waits()
    assert command[-1] == door.client.ready["public_key"]
    assert not door.first.done()
    assert services.knock.connections == 0
    await door.run(command)
    async with asyncio.timeout(30):
        assert await door.first == b"knock"
    assert services.knock.connections == 1
