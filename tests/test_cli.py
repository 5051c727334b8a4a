"""The commands: what they print, which files they leave, and their exit status."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import toxproxy
from tests.alone import ALONE
from toxproxy.address import parse_tox_id
from toxproxy.admission.access import Access
from toxproxy.cli import main
from toxproxy.config.settings import AccessSettings
from toxproxy.demo.network import Process, ProcessFailed
from toxproxy.system.state import StateFolder
from toxproxy.tox import library

COMMANDS = (
    "server", "client", "check", "reload", "status", "ping", "streams", "close",
    "invite", "join", "allow", "clients", "revoke", "block", "id", "demo",
)  # fmt: skip
KEY = "1E" * 32
SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
CLIENT = f"{ALONE}[socks]\nbrowser = 0:{SERVER}\n[client]\nssh = 0:127.0.0.1:22:{SERVER}\n"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default state folder of the server."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "toxproxy" / "server"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration without a network and without listeners."""
    path = tmp_path / "alone.ini"
    path.write_text(ALONE)
    return path


def with_text(config: Path, text: str) -> Path:
    """The configuration with `text` added."""
    config.write_text(config.read_text() + text)
    return config


async def finished(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(20):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def toxproxy_process(*arguments: object) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", *map(str, arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(toxproxy.__file__).parents[1],
    )  # fmt: skip


def port_of(client: Process, name: str) -> int:
    (address,) = (entry["address"] for entry in client.ready["listeners"] if entry["name"] == name)
    return int(address.rpartition(":")[2])


# The command line


def test_without_a_command_the_help_is_shown_and_the_status_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "toxproxy server" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["serve"], ["client"], ["id", "nobody"], ["server", "--log-format", "xml"], ["close"]]
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert "--state" in capsys.readouterr().out


def test_a_state_folder_with_a_percent_sign_breaks_no_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "100%d"))
    monkeypatch.setenv("COLUMNS", "500")
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    assert "100%d" in capsys.readouterr().out


def test_version_prints_those_of_the_package_and_of_libtoxcore(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"toxproxy {toxproxy.__version__} (libtoxcore {library.version()})\n"


async def test_version_works_without_libtoxcore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOXPROXY_LIBTOXCORE", "/nonexistent")
    status, out, err = await finished(await toxproxy_process("--version"))
    assert (status, err) == (0, "")
    assert out.startswith(f"toxproxy {toxproxy.__version__} (TOXPROXY_LIBTOXCORE names /nonexistent")


def test_options_may_stand_before_or_after_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "state")
    assert main(["--state", folder, "id"]) == 0
    assert main(["id", "--state", folder]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second


# Configuration


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (ALONE, "bad.ini: expected a forward in [client] or a proxy in [socks], found none"),
        (f"[socks]\nbrowser = 1080:{KEY}\n", "bad.ini:2: expected a whole Tox ID"),
        ("[sox]\n", "bad.ini:1: expected a known section"),
    ],
)
def test_a_bad_configuration_is_one_line_and_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    path = tmp_path / "bad.ini"
    path.write_text(text)
    assert main(["client", str(path), "--state", str(tmp_path / "state")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("toxproxy: ")
    assert complaint in line


def test_a_missing_configuration_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["server", str(tmp_path / "none.ini")]) == 2
    assert "none.ini: expected a readable file" in capsys.readouterr().err


def test_with_json_logs_an_error_is_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--log-format", "json", "server", str(tmp_path / "none.ini")]) == 2
    record = json.loads(capsys.readouterr().err)
    assert record["level"] == "ERROR"
    assert "none.ini" in record["message"]


@pytest.mark.parametrize(("option", "traceback"), [("-v", False), ("-vv", True)])
def test_a_traceback_is_shown_with_two_v(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, traceback: bool
) -> None:
    assert main([option, "server", str(tmp_path / "none.ini")]) == 2
    assert ("Traceback" in capsys.readouterr().err) is traceback


# Starting


async def test_without_libtoxcore_the_status_is_1(
    config: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOXPROXY_LIBTOXCORE", "/nonexistent")
    status, out, err = await finished(await toxproxy_process("server", config))
    assert (status, out) == (1, "")
    assert err.startswith("toxproxy: TOXPROXY_LIBTOXCORE names /nonexistent")
    assert len(err.splitlines()) == 1


async def test_a_port_that_is_taken_is_named_and_the_status_is_1(tmp_path: Path, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        path = tmp_path / "client.ini"
        path.write_text(f"{ALONE}[socks]\nbrowser = {port}:{SERVER}\n")
        status, _, err = await finished(await toxproxy_process("client", path))
    assert status == 1
    assert f"browser: cannot listen on 127.0.0.1:{port}" in err


async def test_a_ready_file_that_cannot_be_written_is_an_error_and_the_status_is_1(
    config: Path, state: Path, tmp_path: Path
) -> None:
    process = await toxproxy_process("server", config, "--ready-file", tmp_path / "none" / "ready")
    status, _, err = await finished(process)
    assert status == 1
    assert "the ready file" in err


# Identity


def test_id_makes_an_identity_and_keeps_it(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["id"]) == 0
    assert main(["id"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first == second == str(parse_tox_id(first))
    assert (state / "identity.tox").is_file()


def test_the_client_has_an_id_of_its_own(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["id", "server"])
    main(["id", "client"])
    server, client = capsys.readouterr().out.split()
    assert server != client


def test_a_damaged_identity_is_an_error_and_is_left_as_it_is(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    StateFolder(state).write("identity.tox", b"no identity")
    assert main(["id"]) == 1
    assert "identity.tox is damaged" in capsys.readouterr().err
    assert (state / "identity.tox").read_bytes() == b"no identity"


# Letting clients in


def test_allow_without_a_running_server_is_recorded(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["allow", KEY]) == 0
    assert "next start" in capsys.readouterr().out
    assert Access(AccessSettings(), StateFolder(state)).admits(bytes.fromhex(KEY))


def test_a_server_works_without_uvloop_and_a_verbose_log_tells_that_it_is_missing(
    state: Path, config: Path
) -> None:
    code = "import sys; sys.modules['uvloop'] = None; from toxproxy.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "-v", "server", str(config), "--ready-file", "/nonexistent/ready"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert "uvloop is not installed: on asyncio's own event loop" in run.stderr
    assert "the ready file" in run.stderr


def test_allow_takes_a_whole_tox_id(state: Path) -> None:
    assert main(["allow", SERVER]) == 0
    assert Access(AccessSettings(), StateFolder(state)).admits(parse_tox_id(SERVER).public_key)


@pytest.mark.parametrize(
    ("key", "complaint"), [("12", "expected a public key of 64"), ("FE" * 32, "this cannot be a Tox key")]
)
def test_allow_with_a_bad_key_exits_with_2(
    key: str, complaint: str, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["allow", key]) == 2
    assert capsys.readouterr().err.startswith(f"toxproxy: allow: {complaint}")
    assert not state.exists()


# A running server


async def test_a_server_prints_its_id_and_lines_to_paste_and_stops_in_order(
    config: Path, state: Path, tmp_path: Path
) -> None:
    ready = tmp_path / "ready"
    process = await toxproxy_process("server", config, "--permit", "*:*", "--ready-file", ready)
    assert process.stdout is not None
    out = (await asyncio.wait_for(process.stdout.readuntil(b"toxproxy allow"), 20)).decode()
    described = json.loads(ready.read_text())
    process.terminate()
    status, rest, log = await finished(process)
    assert (status, rest.strip()) == (0, "")
    assert f"[client]\nssh = 2222:127.0.0.1:22:{described['tox_id']}\n" in out
    assert f"[socks]\nbrowser = 1080:{described['tox_id']}\n" in out
    assert "and nothing else" not in out
    assert set(described) == {
        "pid", "tox_id", "public_key", "dht_key", "udp_port", "tcp_port", "listeners"
    }  # fmt: skip
    assert described["pid"] == process.pid
    assert described["tox_id"].startswith(described["public_key"])
    assert 22000 <= described["udp_port"] <= 22999
    assert not ready.exists()
    assert len(log.splitlines()) == (1 if library.warning() is None else 2)


@pytest.mark.parametrize("deny", ["", "[access]\ndeny = 10.0.0.0/8:*\n"])
async def test_a_server_without_rules_prints_what_clients_reach_and_how_to_permit_more(
    config: Path, state: Path, deny: str
) -> None:
    process = await toxproxy_process("server", with_text(config, deny))
    assert process.stdout is not None
    out = (await asyncio.wait_for(process.stdout.readuntil(b"toxproxy allow"), 20)).decode()
    process.terminate()
    assert (await finished(process))[0] == 0
    assert "[client]\nssh = 2222:127.0.0.1:22:" in out
    assert "[socks]" not in out
    assert "Clients reach 127.0.0.1:22 here and nothing else." in out
    assert "--permit '*:*'" in out
    assert "[access] permit" in out


@pytest.mark.parametrize(
    ("access", "permit", "complaint"),
    [
        (
            "[access]\npermit = a:1\n",
            "b:2",
            "--permit: expected no permit in [access] of the configuration file, found one: remove either",
        ),
        ("", "a", "--permit: expected host:port (IPv6 in brackets, * for any port), found 'a'"),
        ("", "", "--permit: expected at least one host:port, found none"),
    ],
)
def test_a_bad_permit_option_is_one_line_and_exits_with_2(
    config: Path, state: Path, capsys: pytest.CaptureFixture[str], access: str, permit: str, complaint: str
) -> None:
    assert main(["server", str(with_text(config, access)), "--permit", permit]) == 2
    assert capsys.readouterr().err == f"toxproxy: {complaint}\n"
    assert not state.exists()


async def test_the_permit_option_is_warned_about_like_permit_in_the_file(config: Path, state: Path) -> None:
    process = await toxproxy_process("server", with_text(config, "[access]\nallow = *\n"), "--permit", "*:*")
    assert process.stdout is not None
    await asyncio.wait_for(process.stdout.readuntil(b"browser = "), 20)
    process.terminate()
    status, _, log = await finished(process)
    assert status == 0
    assert "may connect to whatever this machine can reach" in log


async def test_a_server_with_clients_does_not_print_how_to_allow_one(state: Path, config: Path) -> None:
    await asyncio.to_thread(main, ["allow", KEY])
    process = await toxproxy_process("server", config)
    assert process.stdout is not None
    out = await asyncio.wait_for(process.stdout.readuntil(b"ssh = "), 20)
    process.send_signal(signal.SIGINT)
    status, rest, _ = await finished(process)
    assert status == 0
    assert "allow" not in out.decode() + rest


async def test_allow_asks_the_running_server_and_id_reads_its_identity(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Process("server", tmp_path)
    folder = tmp_path / "server.state"
    try:
        await server.start(ALONE)
        assert await asyncio.to_thread(main, ["allow", KEY, "--state", str(folder)]) == 0
        assert "is allowed" in capsys.readouterr().out
        assert await asyncio.to_thread(main, ["id", "--state", str(folder)]) == 0
        assert capsys.readouterr().out.strip() == server.ready["tox_id"]
    finally:
        assert await server.stop() == 0
    assert Access(AccessSettings(), StateFolder(folder)).admits(bytes.fromhex(KEY))


async def test_a_second_server_is_refused_and_leaves_the_firsts_ready_file_alone(tmp_path: Path) -> None:
    first = Process("server", tmp_path)
    try:
        await first.start(ALONE)
        second = Process("server", tmp_path)
        with pytest.raises(ProcessFailed):
            await second.start(ALONE)
        assert await second.stop() == 1
        assert f"is in use by process {first.pid}" in second.tail[-1]
        assert (tmp_path / "server.json").exists()
    finally:
        assert await first.stop() == 0


# A running client


async def test_a_client_says_where_it_listens_and_what_it_waits_for(tmp_path: Path) -> None:
    client = Process("client", tmp_path)
    try:
        await client.start(CLIENT)
        await client.wait_for("absent", 10)
    finally:
        assert await client.stop() == 0
    listeners = {entry["name"]: entry for entry in client.ready["listeners"]}
    assert {name: entry["kind"] for name, entry in listeners.items()} == {
        "browser": "socks",
        "ssh": "forward",
    }
    *_, started, waiting = client.tail
    assert all(f"{entry['address']} ({name})" in started for name, entry in listeners.items())
    assert started.endswith(f" (libtoxcore {library.version()})")
    assert waiting == "info: looking for the Tox network"


async def test_a_client_told_to_stop_waits_for_connections_until_it_is_told_again(tmp_path: Path) -> None:
    client = Process("client", tmp_path)
    try:
        await client.start(CLIENT)
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client, "browser"))
        writer.write(b"\x05\x01\x00")
        assert await reader.readexactly(2) == b"\x05\x00"  # the connection has been accepted
        os.kill(client.pid, signal.SIGINT)
        with contextlib.suppress(ConnectionError):
            while True:  # until nobody listens there any more
                _, other = await asyncio.open_connection("127.0.0.1", port_of(client, "ssh"))
                other.close()
    finally:
        assert await client.stop() == 0  # a SIGKILL would be -9
    writer.close()
    assert "waiting for" in client.tail[-1]


async def test_a_user_without_a_home_needs_a_state_folder_and_nothing_else(config: Path) -> None:
    program = (
        "import pwd; pwd.getpwuid = lambda _: {}[0]\nfrom toxproxy.cli import main; raise SystemExit(main())"
    )

    async def run(*arguments: object) -> tuple[int | None, str, str]:
        return await finished(await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, *map(str, arguments),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"PATH": os.environ["PATH"]},
            cwd=Path(toxproxy.__file__).parents[1],
        ))  # fmt: skip

    status, out, _ = await run("--help")
    assert status == 0
    assert "none, since this user has no home" in " ".join(out.split())
    assert await run("status") == (
        1, "", "toxproxy: this user has no home: name the folder for the state with --state\n"
    )  # fmt: skip
    assert (await run("--state", config.parent / "state", "id"))[0] == 0
