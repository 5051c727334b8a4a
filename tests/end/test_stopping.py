"""A client that is stopped or killed and started again; both ends stopped during a transfer."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time

import pytest

from tests.end.services import ORDER, content
from tests.end.world import Door, ask, told
from toxproxy.app.end import DRAIN

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEN = 10_000_000  # bytes, more than waits in all buffers on the way
AGAIN = 130  # seconds: libtoxcore may need 32 s to notice that a friend left, and longer to find it again


@pytest.mark.timeout(180)
async def test_a_client_works_again_after_a_restart(door: Door) -> None:
    await door.settled()
    assert await door.client.stop(30) == 0
    assert await restarted(door) == b"knock"


@pytest.mark.timeout(180)
async def test_a_killed_client_replaces_its_old_session_when_it_comes_back(door: Door) -> None:
    await door.admitted()
    assert await ask(door.forward("echo"), b"hello") == b"hello"
    os.kill(door.client.pid, signal.SIGKILL)
    assert await door.client.stop() == -signal.SIGKILL
    assert await restarted(door) == b"knock"
    assert await ask(door.forward("echo"), b"hello") == b"hello"


async def restarted(door: Door) -> bytes:
    """Start the client again. Returns the answer to a connection made at once."""
    await door.start_client()
    assert door.first is not None
    async with asyncio.timeout(AGAIN):
        return await door.first


async def test_both_ends_finish_a_transfer_before_they_stop(door: Door) -> None:
    await door.admitted()
    reader, writer = await asyncio.open_connection(*door.forward("exchange"))
    writer.write(ORDER.pack(1, TEN))
    writer.write_eof()
    received = await reader.readexactly(1)
    processes = door.server, door.client
    began = time.monotonic()
    stopping = [asyncio.create_task(process.stop(30)) for process in processes]
    for process in processes:
        await told(process, "waiting for 1 connection to end")
    try:
        received += await reader.read()
    except ConnectionResetError:
        assert time.monotonic() - began > DRAIN
        pytest.skip(f"this machine needs longer than {DRAIN:g} s for {TEN} bytes")
    assert received == b"".join(content(1, TEN)) + hashlib.sha256(b"").digest()
    writer.close()
    statuses = await asyncio.gather(*stopping)
    assert statuses == [0, 0], [list(process.tail) for process in processes]
