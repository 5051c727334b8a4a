"""The demo as a process: it works, it shows its errors, it leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

import toxproxy
from tests.alone import ALONE
from toxproxy.app.end import DRAIN
from toxproxy.cli import main
from toxproxy.demo import check
from toxproxy.demo.network import PrivateNetwork, Process
from toxproxy.demo.site import Site, by_forward


def processes_about(folder: Path) -> list[int]:
    """The ids of the processes whose command line names a path in `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty folder for temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def test_the_demo_checks_every_port_and_leaves_nothing(
    temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.endswith("identical")]
    assert [row.split()[0] for row in rows] == ["SOCKS5", "SOCKS5", "HTTP", "HTTP", "forward", "forward"]
    assert "DIFFERENT" not in out
    assert os.listdir(temporary) == []
    assert processes_about(temporary) == []


def test_a_demo_that_fails_shows_the_logs(
    temporary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOXPROXY_LIBTOXCORE", "/nonexistent")
    assert main(["demo"]) == 1
    output = capsys.readouterr()
    assert "the server did not report 'started' before its end" in output.out
    assert "server: error: TOXPROXY_LIBTOXCORE names /nonexistent" in output.err
    assert os.listdir(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_an_interrupted_demo_ends_its_processes(temporary: Path, number: signal.Signals) -> None:
    demo = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", "demo", cwd=Path(toxproxy.__file__).parents[1]
    )
    async with asyncio.timeout(120):
        while len(processes_about(temporary)) < 2:
            await asyncio.sleep(0.05)
        demo.send_signal(number)
        assert await demo.wait() == 1
    assert processes_about(temporary) == []
    assert os.listdir(temporary) == []


async def refusal(address: tuple[str, int]) -> None:
    """Wait until nobody listens at an address any more."""
    with contextlib.suppress(ConnectionError):
        while True:
            _, writer = await asyncio.open_connection(*address)
            writer.close()
            await writer.wait_closed()


async def test_a_file_that_does_not_come_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check, "_FETCH_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with Site() as site:
            assert not await check._check(by_forward(silent.getsockname()), site, "a file", [site.file])
    assert "failed: not there within 0.2 s" in capsys.readouterr().out


async def test_a_stopping_client_finishes_a_download_but_accepts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toxproxy.demo.site._FILE_BYTES", 10_000_000)  # which have ten seconds to leave
    async with Site() as site:
        at = f"{site.address[0]}:{site.address[1]}"
        server, client = f"[access]\npermit = {at}\n", f"[client]\nsite = 0:{at}:TOXID\n"
        async with PrivateNetwork(tmp_path, server=server, client=client) as network:
            await network.connected()
            way = by_forward(network.listener("site"))
            reader, writer = await way.connect()
            writer.write(f"GET {site.file} HTTP/1.1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            began = time.monotonic()
            os.kill(network.client.pid, signal.SIGTERM)
            await refusal(network.listener("site"))
            body = bytearray()
            try:
                while data := await reader.read(1 << 20):
                    body += data
            except ConnectionResetError:
                assert time.monotonic() - began > DRAIN
                pytest.skip(f"this machine needs longer than {DRAIN:g} s for the file")
            writer.close()
            assert b"200 OK" in head
            assert bytes(body) == site.content[site.file]
            assert await network.client.stop() == 0
            assert any(line.startswith("info: waiting for ") for line in network.client.tail)


async def test_a_python_file_of_the_current_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "downloads"
    here.mkdir()
    for name in ("h11", "toxproxy", "json"):
        (here / f"{name}.py").write_text(f"open({str(here / 'ran')!r}, 'w')\nraise SystemExit(1)\n")
    monkeypatch.chdir(here)
    process = Process("server", tmp_path)
    try:
        await process.start(ALONE)
    finally:
        status = await process.stop()
    assert not (here / "ran").exists()
    assert status == 0
