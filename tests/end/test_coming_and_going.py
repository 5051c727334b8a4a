"""A client that nobody knows is let in, dies, comes back; then both ends are told to stop."""

from __future__ import annotations

import asyncio
import hashlib
import time

import pytest

from tests.end.services import ORDER, content
from tests.end.world import Door, Services, ask, told

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORTY = 40_000_000  # bytes


async def test_an_unknown_client_gets_nowhere_until_it_is_allowed(door: Door, services: Services) -> None:
    assert door.first is not None
    key = await door.client_waits()
    assert key == door.client.ready["public_key"]
    assert not door.first.done()
    assert services.knock.connections == 0
    await door.allow(key)
    async with asyncio.timeout(30):
        assert await door.first == b"knock"
    assert services.knock.connections == 1


async def test_a_client_that_was_killed_works_again_within_15_seconds_of_its_new_start(door: Door) -> None:
    await door.admitted()
    assert await ask(door.forward("echo"), b"hello") == b"hello"
    await door.kill_client()
    began = time.monotonic()
    await door.start_client()
    assert door.first is not None
    async with asyncio.timeout(30):
        assert await door.first == b"knock"
    print("RESTART", time.monotonic() - began)
    assert time.monotonic() - began < 15


async def test_both_ends_told_to_stop_let_a_transfer_end(door: Door) -> None:
    await door.admitted()
    reader, writer = await asyncio.open_connection(*door.forward("exchange"))
    writer.write(ORDER.pack(1, FORTY))
    writer.write_eof()
    received = await reader.readexactly(1)
    processes = door.server, door.client
    stopping = [asyncio.create_task(process.stop(30)) for process in processes]
    for process in processes:
        await told(process, "waiting for 1 connection to end")
    received += await reader.read()
    assert received == b"".join(content(1, FORTY)) + hashlib.sha256(b"").digest()
    writer.close()
    assert await asyncio.gather(*stopping) == [0, 0]
