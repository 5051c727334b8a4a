"""`toxproxy top` at a terminal, and for programs."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from tests.app.test_control_plane import PATIENCE, Ends, command, running
from tests.machine import pseudo_terminal

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    async with running(tmp_path_factory.mktemp("ends"), "allow = *\n") as ends:
        await ends.connected()
        yield ends


class Screen:
    """What a program has written to its terminal, and keys for it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""
        os.set_blocking(descriptor, False)
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            self.text += os.read(self._descriptor, 65536).decode(errors="replace")
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def type(self, keys: bytes) -> None:
        os.write(self._descriptor, keys)

    async def until(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.text:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def top(ends: Ends, role: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Screen]]:
    near, far = pseudo_terminal()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "toxproxy", "top", "--state", ends.folder / role),
        stdin=far, stdout=far, stderr=far, start_new_session=True,
        env={**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(far)
    try:
        yield process, Screen(near)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(near)
        os.close(near)


@pytest.mark.parametrize("role", ["client", "server"])
async def test_exactly_the_chosen_connection_is_closed_by_a_key(ends: Ends, role: str) -> None:
    async with ends.talking() as (first, one), ends.talking() as (second, two):
        async with top(ends, role) as (process, screen):
            await screen.until("where to")
            screen.type(b"c")
            await screen.until("choose one first")
            ids = [each["id"] for each in (await ends.told(role, "streams"))["streams"]]
            screen.type(b"\x1bOB")  # the arrow down, in the keypad's application mode
            await asyncio.sleep(1.5)
            screen.type(b"c")
            await screen.until("is closed")
            left = [each["id"] for each in (await ends.told(role, "streams"))["streams"]]
            assert len(left) == 1
            assert left[0] in ids
            screen.type(b"q")
            async with asyncio.timeout(PATIENCE):
                assert await process.wait() == 0
        gone, there = (first, (second, two)) if left[0] == ids[1] else (second, (first, one))
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(gone.read(), PATIENCE)
        there[1].write(b"still")
        assert await asyncio.wait_for(there[0].readexactly(5), PATIENCE) == b"still"
    async with asyncio.timeout(PATIENCE):
        while ends.client.streams or ends.server.streams:
            await asyncio.sleep(0.05)


async def test_for_programs_it_prints_a_line_each_second_with_the_rates(ends: Ends) -> None:
    async with ends.talking() as (reader, writer):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toxproxy", "top", "--json", "--state", ends.folder / "client"),
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            await process.stdout.readline()
            writer.write(bytes(100_000))
            await reader.readexactly(100_000)
            told: Any = json.loads(await process.stdout.readline())
            process.send_signal(2)
            assert await process.wait() == 0
    (stream,) = told["streams"]
    assert told["count"] == 1
    assert stream["target"].startswith("127.0.0.1:")
    assert 100_000 / 30 < stream["received_bytes_per_s"] <= 100_005 / 0.9


async def test_without_a_terminal_it_says_what_to_use(ends: Ends) -> None:
    done = await ends.ask("client", "top")
    assert (done.status, done.out) == (1, "")
    assert "toxproxy streams, or top --json" in done.err


async def test_where_nothing_runs_the_terminal_is_left_as_it_is(tmp_path: Any) -> None:
    near, far = pseudo_terminal()
    done = await command("top", "--state", tmp_path / "none", stdin=far)
    os.close(near)
    os.close(far)
    assert done.status == 1
    assert "\x1b" not in done.out + done.err
