"""`toxproxy check`, `toxproxy reload` and SIGHUP, with processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.machine import pseudo_terminal
from tests.ports import unused_port
from toxproxy.cli import main

SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
PATIENCE = 30


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "toxproxy", *map(str, arguments)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip


# check


def test_a_character_that_the_output_lacks_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cfg.ini"
    file.write_text(f"{ALONE}[client]\ncaf\u00e9 = 2222:127.0.0.1:22:{SERVER}\n", "utf-8")
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = command("check", file)
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9: 127.0.0.1:2222 -> 127.0.0.1:22" in done.stdout


def test_check_says_what_a_clients_file_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cfg.ini"
    file.write_text(
        f"{ALONE}[client]\nssh = 2222:127.0.0.1:22:{SERVER}\n[socks]\nshared = alice:s3cret@*:1081:{SERVER}\n"
        "[compress]\nssh = no\n[access]\nsecret = correct horse battery\n"
        "[web]\nlisten = 127.0.0.1:9090\nsecret = battery horse correct\n"
    )
    file.chmod(0o600)
    assert main(["check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "As a client:\n"
        "  ssh: 127.0.0.1:2222 -> 127.0.0.1:22 at the server A5A02FECA08E, not compressed\n"
        "  shared: *:1081 (SOCKS and HTTP proxy) -> the server A5A02FECA08E, with the password of alice\n"
        "  asks the server A5A02FECA08E to be let in with a secret\n"
        "  Tox: starts from no node, a UDP port from 22000 to 22999\n"
        "  has a page at http://127.0.0.1:9090 with a secret\n"
    )
    assert err == ""


def test_check_says_what_a_servers_file_means_and_warns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cfg.ini"
    file.write_text(
        f"[access]\nallow = {'1E' * 32}\nsecret = short\npermit = *.lan:80-89, *:*\n"
        "[exit]\nupstream = http://me:hidden@127.0.0.1:8080\n[log]\naudit = /a/log\n"
        "[tox]\nproxy = socks5://127.0.0.1:9050\n"
    )
    file.chmod(0o644)
    assert main(["check", str(file)]) == 0
    out, err = capsys.readouterr()
    assert out == (
        "As a server:\n"
        "  lets in: the clients of `toxproxy allow`, 1 client of [access] allow, whoever sends the secret\n"
        "  they may connect to: *.lan:80-89, *:*\n"
        "  connects through: http://127.0.0.1:8080\n"
        "  writes a line for each connection to /a/log, as text, moved to /a/log.1 at 10.5 MB\n"
        "  Tox: starts from the public nodes, over TCP through socks5://127.0.0.1:9050\n"
    )
    assert "warning: [access] secret has fewer than 12 characters" in err
    assert f"warning: {file} holds a secret and is open to other users" in err
    assert "short" not in out + err
    assert "hidden" not in out + err


def test_check_of_a_file_for_both_roles_and_of_one_role(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cfg.ini"
    file.write_text(f"[access]\npermit = *:*\n[socks]\nbrowser = 1080:{SERVER}\n")
    assert main(["check", str(file)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] == "A"] == [
        "As a server:",
        "As a client:",
    ]
    file.write_text("")
    assert main(["check", str(file)]) == 0
    assert "127.0.0.1:22 (there is no permit)" in capsys.readouterr().out
    assert main(["check", str(file), "--role", "client"]) == 1
    assert "expected a forward in [client]" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[access]\npermit = nonsense\n", "\n[tox]\n\nprot = 1\n", "\x1b[31m"])
def test_check_names_the_line_of_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    file = tmp_path / "cfg.ini"
    file.write_text(text)
    assert main(["check", str(file)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"toxproxy: {file}:{len(text.splitlines())}: expected ")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_check_makes_no_state_and_opens_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    (tmp_path / "cfg.ini").write_text(f"[client]\nssh = 0:host.invalid:22:{SERVER}\n")
    assert main(["--state", str(tmp_path / "state"), "check", str(tmp_path / "cfg.ini")]) == 0
    assert os.listdir(tmp_path) == ["cfg.ini"]


# reload


@contextmanager
def running(folder: Path, text: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A client process with a file of `text`; its log is `log`."""
    (folder / "cfg.ini").write_text(ALONE + text)
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            [*arguments, sys.executable, "-m", "toxproxy", "client", "--state", folder / "state",
             "--ready-file", folder / "ready", folder / "cfg.ini"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
        )  # fmt: skip
    try:
        wait_for(lambda: (folder / "ready").exists(), process)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def wait_for(what: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, "it ended"
        assert time.monotonic() < until
        time.sleep(0.05)


def said(folder: Path, words: str) -> bool:
    return words in (folder / "log").read_text()


def listens(port: int) -> bool:
    with closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_reload_says_what_changed_what_is_wrong_and_what_needs_a_restart(tmp_path: Path) -> None:
    first, second = unused_port(), unused_port()
    with running(tmp_path, f"[client]\none = {first}:127.0.0.1:22:{SERVER}\n"):
        file = tmp_path / "cfg.ini"
        text = f"[client]\ntwo = {second}:127.0.0.1:22:{SERVER}\n[socks]\nx = *:0:{SERVER}\n"
        file.write_text(f"{ALONE}wait = 5\n{text}")
        done = command("reload", "--state", tmp_path / "state")
        assert (done.returncode, done.stdout) == (
            0,
            "added: [client] two, [socks] x\nremoved: [client] one\nrestart to change: [tox] wait\n",
        )
        assert done.stderr.startswith("warning: [socks] x listens on *:0 without a password")
        assert (listens(first), listens(second)) == (False, True)
        file.write_text(f"{ALONE}[client]\none = {first}:127.0.0.1:TOXID\n")
        done = command("reload", "--state", tmp_path / "state")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{file}:6: expected [localip:]localport" in done.stderr
        assert (listens(first), listens(second)) == (False, True)


def test_sighup_reloads_and_logs_what_is_wrong(tmp_path: Path) -> None:
    first, second = unused_port(), unused_port()
    with running(tmp_path, f"[client]\none = {first}:127.0.0.1:22:{SERVER}\n", "setsid") as process:
        file = tmp_path / "cfg.ini"
        file.write_text(f"{ALONE}[client]\none = x\n")
        process.send_signal(signal.SIGHUP)
        text = f"the configuration is not taken over, and nothing has changed: {file}:6: expected "
        wait_for(lambda: said(tmp_path, text), process)
        assert listens(first)
        file.write_text(f"{ALONE}[client]\ntwo = {second}:127.0.0.1:22:{SERVER}\n")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: listens(second), process)
        wait_for(lambda: said(tmp_path, "added: [client] two; removed: [client] one"), process)
        assert not listens(first)
    assert process.returncode == 0


@pytest.mark.skipif(shutil.which("setsid") is None, reason="setsid is not installed")
def test_a_terminal_that_is_closed_ends_the_program(tmp_path: Path) -> None:
    near, far = pseudo_terminal()
    (tmp_path / "cfg.ini").write_text(f"{ALONE}[client]\none = 0:127.0.0.1:22:{SERVER}\n")
    process = subprocess.Popen(
        ["setsid", "--ctty", sys.executable, "-m", "toxproxy", "client", "--state", tmp_path / "state",
         "--ready-file", tmp_path / "ready", tmp_path / "cfg.ini"],
        stdin=far, stdout=far, stderr=far, text=True,
    )  # fmt: skip
    try:
        os.close(far)
        wait_for(lambda: (tmp_path / "ready").exists(), process)
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        assert process.poll() is None
        os.close(near)
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
