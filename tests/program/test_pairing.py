"""`toxproxy invite` and `toxproxy join`, as far as they go without another machine."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.alone import ALONE
from toxproxy import config
from toxproxy.address import parse_tox_id
from toxproxy.cli import main
from toxproxy.errors import ConfigError, ToxproxyError
from toxproxy.pairing import meeting
from toxproxy.pairing.meeting import Joined
from toxproxy.pairing.words import parse_words
from toxproxy.program import pairing
from toxproxy.system.state import StateFolder

SERVER = parse_tox_id("A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719")
WORDS = "abandon zoo candy orbit skin hello"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, and state folders of its own. The process of the tests keeps its rights."""
    monkeypatch.setattr(pairing, "_close_up", lambda: None)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def join(*arguments: str) -> int:
    return main(["join", *arguments])


def test_the_other_commands_do_not_load_what_only_these_two_need() -> None:
    loaded = "import sys, toxproxy.cli; print({'cryptography', 'spake2', 'segno'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# What is refused before anything is sent


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ["abandn", *WORDS.split()[1:]],
            "join: expected words of the list, found 'abandn': did you mean abandon",
        ),
        (WORDS.split()[1:], "join: expected 6 words, found 5"),
        (["toxproxy://join/abandon-zoo"], "join: expected 6 words, found 2"),
        ([*WORDS.split(), "--port", "0"], "join: expected a port from 1 to 65535, found '0'"),
        (
            [*WORDS.split(), "--output", "none/cfg.ini"],
            "join: expected a folder where none/cfg.ini can be written",
        ),
        ([*WORDS.split(), "--tox", "none.ini"], "none.ini"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert join(*arguments) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert len(err.splitlines()) == 1
    assert list(here.iterdir()) == []


def test_a_file_that_is_there_is_not_touched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "cfg.ini").write_text("mine")
    assert join(*WORDS.split()) == 2
    assert "join: expected no file cfg.ini, found one" in capsys.readouterr().err
    assert [path.name for path in here.iterdir()] == ["cfg.ini"]
    assert (here / "cfg.ini").read_text() == "mine"


def test_words_are_asked_for_if_none_are_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("abandn zoo candy orbit skin hello\n"))
    assert join() == 2
    assert "did you mean abandon" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert join() == 2
    assert "join: expected six words, found none" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "replaces"), [("y", True), (" YES ", True), ("n", False), ("", False)])
def test_on_a_terminal_replacing_a_file_is_asked_for(
    here: Path, monkeypatch: pytest.MonkeyPatch, answer: str, replaces: bool
) -> None:
    path = here / "cfg.ini"
    assert pairing.may_write(path) is False
    path.write_text("mine")
    monkeypatch.setattr(sys, "stdin", Terminal(answer + "\n"))
    if replaces:
        assert pairing.may_write(path) is True
    else:
        with pytest.raises(ConfigError):
            pairing.may_write(path)


# The file that is written


def test_the_file_is_a_configuration_that_only_the_user_reads(here: Path) -> None:
    path = here / "cfg.ini"
    path.write_text("a longer text of before")
    path.chmod(0o644)
    pairing.write(path, pairing.configuration(SERVER, "1081", ""), replacing=True)
    assert path.stat().st_mode & 0o777 == 0o600
    read = config.load(path)
    (proxy,) = read.listeners
    assert (proxy.name, str(proxy.bind), proxy.server) == ("browser", "127.0.0.1:1081", SERVER)
    path.write_text(path.read_text().replace("; ssh", "ssh"))
    assert [entry.name for entry in config.load(path).listeners] == ["browser", "ssh"]


def test_the_tox_section_of_another_file_is_copied() -> None:
    key = "1E" * 32
    other = (
        f"[socks]\nbrowser = 1080:{SERVER}\n[tox] ; ours\nbootstrap = 192.0.2.1:33445:{key},\n"
        f"   [2001:db8::1]:33445:{key}\n# a comment\n[limits]\nidle = 3\n[tox]\nwait = 7\n"
    )
    made = config.parse(pairing.configuration(SERVER, "1080", other), "made")
    assert made.tox == config.parse(other, "other").tox
    assert made.limits == config.DEFAULT.limits
    assert len(made.listeners) == 1


def test_a_file_that_appears_meanwhile_is_left_and_the_text_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "cfg.ini").write_text("mine")
    with pytest.raises(ToxproxyError, match="cannot be written: File exists"):
        pairing.write(here / "cfg.ini", "text for the file", replacing=False)
    assert "text for the file" in capsys.readouterr().out
    assert (here / "cfg.ini").read_text() == "mine"


# An invitation


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("confirmed", [True, False])
def test_what_an_invitation_says_at_its_end(here: Path, runs: bool, confirmed: bool) -> None:
    joined = Joined(("candy", "orbit"), SERVER, SERVER.public_key, confirmed)
    state = StateFolder(here / "a state")
    said = pairing._welcomed(joined, state, None, config.DEFAULT, runs=runs)
    assert "check words: candy orbit" in said
    assert ("did not confirm" in said) is not confirmed
    command = f"  toxproxy server --state '{here / 'a state'}'"
    assert (f"{command}\n" in said) is not runs
    assert (f"{command} --permit '*:*'\n" in said) is not runs


def test_other_attempts_are_told_too(here: Path) -> None:
    joined = Joined(("candy", "orbit"), SERVER, SERVER.public_key, True, attempts=3)
    said = pairing._welcomed(joined, StateFolder(here), None, config.DEFAULT, runs=True)
    assert "3 attempts with these words reached this machine; the others were not let in." in said


def test_an_invitation_that_is_too_old_says_so_and_that_nobody_came(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "alone.ini").write_text(ALONE)
    monkeypatch.setattr(meeting, "invite", partial(meeting.invite, lifetime=0.2))
    assert main(["invite", "alone.ini"]) == 1
    err = capsys.readouterr().err
    assert "nobody joined within 10 minutes. The words are void: make new ones with `toxproxy invite`" in err
    assert "0 attempts with these words reached this machine" in err


def test_ctrl_c_takes_the_invitation_back(here: Path) -> None:
    (here / "alone.ini").write_text(ALONE)
    (here / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "toxproxy", "invite", "alone.ini"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(here / "tmp")},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    lines = iter(process.stdout.readline, "")
    line = next(line for line in lines if "  toxproxy join " in line)
    words = parse_words(line.partition(" join ")[2])
    url = next(line for line in lines if "toxproxy://" in line)
    assert parse_words(url.strip()) == words
    while "looking for the Tox network" not in (log := process.stderr.readline()):
        assert log
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the invitation is over: nobody was let in" in err
    assert "Traceback" not in err
    assert list((here / "tmp").iterdir()) == []
    assert "Joined" not in out
