"""A service manager is told how a real server and client are doing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.manager import Manager
from toxproxy import config
from toxproxy.app.server import Server
from toxproxy.program.supervision import Supervision
from toxproxy.system.notify import Notifier

ROOT = Path(__file__).parents[2]
SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"


def rewrite(file: Path, text: str) -> None:
    file.write_text(text)


@asynccontextmanager
async def running(manager: Manager, *arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """`toxproxy …` below a manager."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", *map(str, arguments),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=manager.environment, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """The configuration of a client whose server does not exist."""
    file = tmp_path / "cfg.ini"
    file.write_text(f"{ALONE}[socks]\nbrowser = 0:{SERVER}\n")
    return file


async def test_a_client_is_ready_before_its_server_is_met_and_tells_when_it_reloads_and_stops(
    tmp_path: Path, client: Path
) -> None:
    with Manager(tmp_path / "notify") as manager:
        async with running(manager, "client", client, "--state", tmp_path / "state") as process:
            ready = await manager.wait_for("READY=1")
            assert manager.told[:ready] == [
                "STATUS=Not connected: the Tox network was not found.", "READY=1",
            ]  # fmt: skip
            rewrite(client, f"{ALONE}[socks]\nother = 0:{SERVER}\n")
            process.send_signal(signal.SIGHUP)
            reloading = await manager.wait_for("RELOADING=1\nMONOTONIC_USEC=", after=ready)
            again = await manager.wait_for("READY=1", after=reloading)
            process.send_signal(signal.SIGTERM)
            stopping = await manager.wait_for("STOPPING=1", after=again)
            assert await process.wait() == 0
            assert not any(message.startswith("READY") for message in manager.told[stopping:])


async def test_a_reload_that_fails_ends_as_well(tmp_path: Path, client: Path) -> None:
    with Manager(tmp_path / "notify") as manager:
        async with running(manager, "client", client, "--state", tmp_path / "state") as process:
            ready = await manager.wait_for("READY=1")
            rewrite(client, "[socks]\nbrowser = nonsense\n")
            process.send_signal(signal.SIGHUP)
            reloading = await manager.wait_for("RELOADING=1", after=ready)
            await manager.wait_for("READY=1", after=reloading)


async def test_a_server_that_works_is_alive_and_one_that_is_stopped_is_not(tmp_path: Path) -> None:
    (tmp_path / "server.ini").write_text(ALONE)
    with Manager(tmp_path / "notify", watchdog=0.5) as manager:
        async with running(
            manager, "server", tmp_path / "server.ini", "--state", tmp_path / "state"
        ) as process:
            first = await manager.wait_for("WATCHDOG=1")
            await manager.wait_for("WATCHDOG=1", after=first)
            os.kill(process.pid, signal.SIGSTOP)
            await asyncio.sleep(0.2)  # what was on its way
            count = len(manager.told)
            await asyncio.sleep(1.5)
            assert len(manager.told) == count
            os.kill(process.pid, signal.SIGCONT)
            await manager.wait_for("WATCHDOG=1", after=count)


async def test_a_node_that_stands_still_is_not_alive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Manager(tmp_path / "notify", watchdog=0.2) as manager:
        environment = {"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "200000"}
        async with Server(config.parse(ALONE, "alone.ini"), tmp_path / "state") as server:
            with Supervision(server, Notifier(environment)):
                first = await manager.wait_for("WATCHDOG=1")
                await manager.wait_for("WATCHDOG=1", after=first)
                assert caplog.text == ""
                server.node._timer.stop()  # no timer rings any more; the loop goes on
                server.node._watch(None)
                await asyncio.sleep(0.3)
                count = len(manager.told)
                await asyncio.sleep(1)
                assert manager.told[count:] == []
    assert "the Tox node stands still" in caplog.text


async def test_a_server_that_never_started_is_not_ready(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    with Manager(tmp_path / "notify") as manager:
        async with running(manager, "server", "--state", tmp_path / "state") as process:
            assert await process.wait() == 1
            assert manager.told == []
