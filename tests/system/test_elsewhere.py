"""What runs on Windows and macOS, as far as that can be played here: see tests/elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.tunnel.ends import echo, service
from toxproxy.demo.network import PrivateNetwork

ROOT = Path(__file__).parents[2]
TOX_ID = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
SYSTEMS = pytest.mark.parametrize("system", ["win32", "darwin"])
BIG = os.urandom(1_000_000)
PATIENCE = 120.0  # seconds for a start on a busy machine
ON_TERMINALS_ONLY = {"toxproxy.cli.screen"}  # is imported where there is curses

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="plays the other systems on Linux")

IMPORT_ALL = """
import importlib, pkgutil, sys, toxproxy
names = {each.name for each in pkgutil.walk_packages(toxproxy.__path__, "toxproxy.")}
for name in sorted(names - {"toxproxy.__main__", *sys.argv[1:]}):
    importlib.import_module(name)
print(sys.platform, sorted({"fcntl", "termios", "resource", "pwd", "grp", "curses"} & sys.modules.keys()))
"""


def elsewhere(system: str, home: Path) -> dict[str, str]:
    """The environment of a process on another system."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    places = {"HOME": home, "USERPROFILE": home, "LOCALAPPDATA": home / "Local", "APPDATA": home / "Roaming"}
    return {
        **own,
        **{name: str(path) for name, path in places.items()},
        "PYTHONPATH": f"{ROOT / 'tests' / 'elsewhere'}{os.pathsep}{ROOT}",
        "TOXPROXY_ELSEWHERE": system,
    }


def python(system: str, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=elsewhere(system, home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def toxproxy(system: str, home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(system, home, "-m", "toxproxy", *arguments)


@contextmanager
def running(system: str, home: Path, role: str, text: str) -> Iterator[subprocess.Popen[str]]:
    """A server or a client with the default state folder, until the end of the block."""
    (home / f"{role}.ini").write_text(ALONE + text)
    ready = home / f"{role}.ready"
    process = subprocess.Popen(
        [sys.executable, "-m", "toxproxy", role, f"{role}.ini", "--ready-file", str(ready)],
        env=elsewhere(system, home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def home() -> Iterator[Path]:
    """A short one: a Unix socket's path has at most 103 bytes on macOS."""
    with tempfile.TemporaryDirectory(prefix="home") as path:
        yield Path(path)


@SYSTEMS
def test_every_module_is_imported_without_those_that_the_system_lacks(system: str, tmp_path: Path) -> None:
    left_out = ON_TERMINALS_ONLY if system == "win32" else set()
    done = python(system, tmp_path, "-c", IMPORT_ALL, *left_out)
    assert done.returncode == 0, done.stderr
    found, _, modules = done.stdout.partition(" ")
    assert found == system
    assert system == "darwin" or modules.strip() == "[]"


@SYSTEMS
def test_the_demo_shows_that_it_works(system: str, tmp_path: Path) -> None:
    done = toxproxy(system, tmp_path, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Everything arrived as it was sent" in done.stdout


@pytest.mark.parametrize(
    ("system", "folder"),
    [("win32", "Local/toxproxy/client"), ("darwin", "Library/Application Support/toxproxy/client")],
)
def test_a_client_is_asked_by_commands_and_ends_in_order(system: str, folder: str, home: Path) -> None:
    port = f"[socks]\nbrowser = 0:{TOX_ID}\n"
    with running(system, home, "client", port) as client:
        state = home / folder
        assert (state / "identity.tox").exists() or any(state.iterdir())
        said = toxproxy(system, home, "status")
        assert said.returncode == 0, said.stderr
        assert "browser: 127.0.0.1:" in said.stdout
        (home / "client.ini").write_text(ALONE + port.replace("browser", "second"))
        assert "added: [socks] second" in toxproxy(system, home, "reload").stdout
        assert "second: 127.0.0.1:" in toxproxy(system, home, "status").stdout
        again = toxproxy(system, home, "client", "client.ini")
        assert again.returncode == 1
        assert f"{state} is in use by process {client.pid}" in again.stderr
        client.send_signal(signal.SIGINT)
        assert client.wait(PATIENCE) == 0
        assert not (home / "client.ready").exists()
    nobody = toxproxy(system, home, "status")
    assert nobody.returncode == 1
    assert "no toxproxy runs with state" in nobody.stderr


async def test_standard_input_and_output_go_through_a_running_client(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in elsewhere("win32", home).items():
        monkeypatch.setenv(name, value)
    async with service(echo) as port:
        permit, forward = (
            f"[access]\npermit = 127.0.0.1:{port}\n",
            f"[client]\nx = 0:127.0.0.1:{port}:TOXID\n",
        )
        async with PrivateNetwork(home, server=permit, client=forward) as network:
            await network.connected()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "toxproxy", "connect", "--state", str(home / "client.state")),
                *("127.0.0.1", str(port)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            async with asyncio.timeout(PATIENCE):
                assert (await process.communicate(BIG))[0] == BIG
            assert process.returncode == 0


def test_who_does_not_know_the_secret_of_the_control_port_is_told_nothing(tmp_path: Path) -> None:
    with running("win32", tmp_path, "server", "") as server:
        path = tmp_path / "Local" / "toxproxy" / "server" / "control"
        assert path.stat().st_mode & 0o777 == 0o600
        port, secret = path.read_text().split()
        with socket.create_connection(("127.0.0.1", int(port)), PATIENCE) as guess:
            assert len(guess.recv(100)) == 32
            guess.sendall(bytes(64) + b'{"version": 1, "method": "status", "params": {}}\n')
            guess.settimeout(PATIENCE)
            with suppress(ConnectionError):  # it hangs up before it has read everything
                assert guess.recv(100) == b""
        path.write_text(f"{port} {bytes(32).hex()}")  # a command that reads another secret asks nothing
        assert "no toxproxy runs" in toxproxy("win32", tmp_path, "status").stderr
        path.write_text(f"{port} {secret}")
        assert toxproxy("win32", tmp_path, "status").returncode == 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE) == 0
    assert not path.exists()


def test_a_killed_program_leaves_a_port_at_which_nobody_is_believed(tmp_path: Path) -> None:
    with running("win32", tmp_path, "server", ""):
        path = tmp_path / "Local" / "toxproxy" / "server" / "control"
    port, _ = path.read_text().split()
    with socket.create_server(("127.0.0.1", int(port))) as impostor:
        asking = subprocess.Popen(
            [sys.executable, "-m", "toxproxy", "status", "--role", "server"],
            env=elsewhere("win32", tmp_path), stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        )  # fmt: skip
        impostor.settimeout(PATIENCE)
        with impostor.accept()[0] as command:
            command.sendall(bytes(32))
            assert len(command.recv(100)) <= 66  # a number, a port, a proof: not the secret, and no request
            command.sendall(bytes(32))
            assert command.recv(100) == b""
        assert "no toxproxy runs with state" in asking.communicate(timeout=PATIENCE)[1]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["service", "status"], "there is no systemd here"),
        (["top"], "top needs a terminal"),
    ],
)
def test_what_windows_lacks_is_said_in_words(words: list[str], expected: str, tmp_path: Path) -> None:
    with running("win32", tmp_path, "client", f"[socks]\nbrowser = 0:{TOX_ID}\n"):
        done = toxproxy("win32", tmp_path, *words)
    assert done.returncode == 1
    assert expected in done.stderr


def test_a_unix_socket_is_refused_in_words_on_windows(tmp_path: Path) -> None:
    forward = f"x = unix:{tmp_path}/x.sock:127.0.0.1:80:{TOX_ID}"
    (tmp_path / "client.ini").write_text(f"{ALONE}[client]\n{forward}\n")
    done = toxproxy("win32", tmp_path, "client", "client.ini")
    assert done.returncode == 1
    assert "this system has no unix sockets" in done.stderr
