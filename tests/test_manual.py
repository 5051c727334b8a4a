"""The manual page: in step with the command line, and without a fault that groff or man would name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "man" / "toxproxy.1"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_page_is_in_step_with_the_command_line() -> None:
    done = run(sys.executable, str(ROOT / "tools" / "manual"), "--check")
    assert done.stdout == "toxproxy.1: in step\n"
    assert done.returncode == 0


@pytest.mark.parametrize("device", ["utf8", "ascii"])
def test_groff_warns_of_nothing(device: str) -> None:
    if (groff := shutil.which("groff")) is None:
        pytest.skip("this machine has no groff")
    done = run(groff, "-ww", "-z", "-man", f"-T{device}", str(PAGE))
    assert (done.returncode, done.stderr) == (0, "")


def test_man_shows_what_the_help_says() -> None:
    if shutil.which("man") is None:
        pytest.skip("this machine has no man")
    done = run("man", "--warnings=w", "--encoding=ascii", "-P", "cat", "-l", str(PAGE))
    if "minimized" in done.stdout:
        pytest.skip("this system's man is a stub")
    assert done.stderr == ""
    text = " ".join(done.stdout.split())
    assert "toxproxy join [--output FILE] [--port N] [--tox FILE] [WORD ...]" in text
    assert "toxproxy server --permit '127.0.0.1:22, *.lan:80-89'" in text
    assert "~/.local/state/toxproxy/server" in text
    assert str(Path.home()) not in text or Path.home() == Path("/")


def test_the_page_is_installed_where_man_finds_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["data-files"]["share/man/man1"] == ["man/toxproxy.1"]
