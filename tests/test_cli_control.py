"""The commands that ask a running end, where none runs, and where it cannot be reached."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.test_cli import CLIENT, KEY
from toxproxy.admission.access import Access
from toxproxy.cli import main
from toxproxy.cli.admit import until
from toxproxy.config.settings import AccessSettings
from toxproxy.control.client import runs
from toxproxy.demo.network import Process
from toxproxy.errors import ConfigError
from toxproxy.system.state import StateFolder

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the default state folders."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "toxproxy"


def access(folder: Path) -> Access:
    return Access(AccessSettings(), StateFolder(folder))


# Nothing runs


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["status", "--watch"], ["status", "--json"], ["ping"], ["streams"], ["close", "X-1"]],
)
def test_where_nothing_runs_a_question_says_so_and_what_to_start(
    home: Path, capsys: Capture, arguments: list[str]
) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"toxproxy: no toxproxy runs with state {home}/server or {home}/client: "
        "start it with: toxproxy server, or toxproxy client CONFIG\n"
    )
    assert not home.exists(), "a question leaves no folders behind"


def test_a_state_that_was_named_is_named(tmp_path: Path, home: Path, capsys: Capture) -> None:
    assert main(["status", "--state", str(tmp_path / "my state")]) == 1
    assert f"start it with: toxproxy server --state '{tmp_path}/my state'" in capsys.readouterr().err
    assert main(["status", "--role", "client"]) == 1
    assert capsys.readouterr().err == (
        f"toxproxy: no toxproxy runs with state {home}/client: start it with: toxproxy client CONFIG\n"
    )


def test_a_socket_that_cannot_be_one_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "control"))
        assert main(["status", "--state", str(tmp_path)]) == 1
    assert f"{tmp_path}/control cannot be asked: " in capsys.readouterr().err


def test_without_a_server_nobody_waits(home: Path, capsys: Capture) -> None:
    assert main(["allow"]) == 1
    assert "so nobody waits: start it, or name the KEY" in capsys.readouterr().err
    assert not home.exists()


def test_without_a_server_the_file_is_changed(home: Path, capsys: Capture) -> None:
    folder = home / "server"
    assert main(["allow", KEY, "--name", "laptop", "--expires", "2h"]) == 0
    record = access(folder).known[bytes.fromhex(KEY)]
    assert record is not None
    assert record.name == "laptop"
    assert record.expires is not None
    assert 7100 < record.expires - time.time() <= 7200
    capsys.readouterr()

    assert main(["clients", "--json"]) == 0
    said = capsys.readouterr()
    (client,) = json.loads(said.out)["clients"]
    assert (client["key"], client["name"], client["admission"]) == (KEY, "laptop", "command")
    assert said.err == f"toxproxy: no server runs with {folder}: this is its file\n"

    assert main(["block", "laptop"]) == 0
    assert capsys.readouterr().out == f"client {KEY[:12]} is blocked\n"
    assert not access(folder).admits(bytes.fromhex(KEY))
    assert main(["clients"]) == 0
    assert capsys.readouterr().out == f"laptop ({KEY[:12]}): blocked\n"
    assert main(["revoke", KEY[:6]]) == 0
    assert access(folder).known == {}
    capsys.readouterr()
    assert main(["clients"]) == 0
    assert capsys.readouterr().out == "no clients yet: toxproxy allow lets one in\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["revoke", "laptop"],
            "revoke: no client on record, and none that waits, is called 'laptop'",
        ),
        (["revoke", "2" * 64], "revoke: this client is not on record"),
        (["block", "2" * 62 + "FF"], "block: this cannot be a Tox key"),
        (["allow", KEY, "--name", " "], "allow: expected a name"),
        (["allow", "F" * 64], "allow: this cannot be a Tox key"),
    ],
)
def test_a_client_that_cannot_be_is_one_line_and_status_2(
    home: Path, capsys: Capture, arguments: list[str], complaint: str
) -> None:
    main(["allow", KEY])
    capsys.readouterr()
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"toxproxy: {complaint}")
    assert access(home / "server").admitted() == {bytes.fromhex(KEY)}


def test_clients_of_a_server_that_never_ran_makes_no_folder(home: Path, capsys: Capture) -> None:
    assert main(["clients"]) == 1
    assert capsys.readouterr().err == f"toxproxy: no toxproxy server has run with state {home}/server\n"
    assert not home.exists()


def test_until_when() -> None:
    assert until("90min", 1000.9) == 1000 + 90 * 60
    assert until("7d", 0) == 7 * 86400
    day = time.localtime(until("2027-01-31", 0) - 1)
    assert (day.tm_year, day.tm_mon, day.tm_mday, day.tm_hour, day.tm_min) == (2027, 1, 31, 23, 59)


@pytest.mark.parametrize("text", ["", "tomorrow", "7", "7w", "2027-02-30", "-1h", "٣d"])
def test_another_time_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="--expires: expected a date as 2027-01-31 or a time as 90min"):
        until(text, 0)


# Something runs


async def test_the_only_end_that_runs_is_asked_and_of_two_one_must_be_named(
    tmp_path: Path, home: Path, capsys: Capture
) -> None:
    os.makedirs(home)
    server, client = Process("server", tmp_path), Process("client", tmp_path)
    for role in ("server", "client"):
        os.symlink(tmp_path / f"{role}.state", home / role)
    try:
        await server.start(ALONE)
        assert await asyncio.to_thread(main, ["status"]) == 0
        assert capsys.readouterr().out.startswith("The server is not on the Tox network")
        await client.start(CLIENT)
        assert await asyncio.to_thread(main, ["status"]) == 2
        assert capsys.readouterr().err == (
            "toxproxy: a server and a client run here: say which with --role server or --role client\n"
        )
        assert await asyncio.to_thread(main, ["status", "--role", "client"]) == 0
        assert capsys.readouterr().out.startswith("Not connected: the Tox network was not found.\n")
        assert await asyncio.to_thread(main, ["ping", "--role", "client", "--count", "1", "--json"]) == 1
        assert json.loads(capsys.readouterr().out)["rtt_ms"] is None
    finally:
        assert await client.stop() == 0
        assert await server.stop() == 0
    assert not (tmp_path / "server.state" / "control").exists()
    assert not (tmp_path / "client.state" / "control").exists()


async def test_after_kill_9_nothing_runs_and_the_next_start_is_asked(tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "server.state"
    first = Process("server", tmp_path)
    await first.start(ALONE)
    os.kill(first.pid, signal.SIGKILL)
    await first.stop()
    assert (folder / "control").is_socket()
    assert not runs(folder)
    assert await asyncio.to_thread(main, ["status", "--state", str(folder)]) == 1
    assert "no toxproxy runs with state" in capsys.readouterr().err
    second = Process("server", tmp_path)
    try:
        await second.start(ALONE)
        assert await asyncio.to_thread(main, ["status", "--state", str(folder)]) == 0
    finally:
        assert await second.stop() == 0
