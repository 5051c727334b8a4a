"""The documentation's site: it builds without a warning, and what it has people type is what there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import blocks, filled_in
from toxproxy import config
from toxproxy.cli.parser import make_parser
from toxproxy.control.checks import Fault

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "troubleshooting.md",
    ROOT / "docs" / "scale.md",
    *sorted((ROOT / "docs" / "howto").iterdir()),
]
#: Why something was not tried: no fault that anybody could mend.
NO_FAULTS = {Fault.NOT_RUNNING, Fault.NOT_CONNECTED, Fault.NOT_ASKED_FOR, Fault.NOT_KNOWN_THERE}

#: What else the pages have people type, and what runs it.
OTHERS = {
    "ssh": "tests/end/test_ssh.py",
    "scp": "tests/end/test_ssh.py",
    "rsync": "tests/end/test_ssh.py",
    "git": "tests/end/test_ssh.py",
    "curl": "tests/end/test_curl.py",
    "chromium": "tests/end/test_browser.py",
    "dig": "tests/app/test_udp.py",
    "docker": "not run: its protocol is, by curl, in tests/app/test_unix.py",
    "xfreerdp": "not run: no remote desktop here",
    "vncviewer": "not run: no remote desktop here",
    "systemctl": "not run: no systemd where tests run",
}


def shown(kind: str) -> list[tuple[str, str]]:
    """The blocks of a kind, each with its page's name."""
    return [(page.name, block) for page in PAGES for block in blocks(page.read_text("utf-8"), kind)]


TYPED = [
    (name, line[2:])
    for name, block in shown("console")
    for line in block.splitlines()
    if line.startswith("$ ")
]


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")
    assert "toxproxy join" in (tmp_path / "site" / "reference" / "commands.html").read_text()
    assert "open_connection" in (tmp_path / "site" / "reference" / "library.html").read_text()


@pytest.mark.parametrize(("page", "line"), TYPED)
def test_every_command_on_the_site_is_one(page: str, line: str) -> None:
    words = [word for word in shlex.split(line, comments=True) if not re.fullmatch(r"[A-Z_]+=.*", word)]
    if words[0] == "toxproxy":
        make_parser().parse_args(words[1:])  # ends the process where it is none
    else:
        assert words[0] in OTHERS, f"{page}: what runs {words[0]}?"


@pytest.mark.parametrize("program", OTHERS)
def test_what_the_site_says_is_run_is_run(program: str) -> None:
    runs = OTHERS[program]
    if not runs.startswith("not run: "):
        assert re.search(rf"\b{program}\b", (ROOT / runs).read_text("utf-8")), (
            f"{runs} does not run {program}"
        )


@pytest.mark.parametrize(("page", "text"), shown("ini"))
def test_every_configuration_on_the_site_is_accepted(page: str, text: str) -> None:
    assert config.parse(filled_in(text), page) != config.DEFAULT


def test_every_fault_that_the_doctor_finds_has_its_place() -> None:
    anchors = re.findall(
        r"\{:? ?#([a-z0-9_]+) ?\}", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    )
    assert sorted(anchors) == sorted(fault.value for fault in set(Fault) - NO_FAULTS)
