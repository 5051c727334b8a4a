"""The documentation's site: it builds without a warning, and what it has people type is what there is."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from toxproxy import config
from toxproxy.cli.parser import make_parser
from toxproxy.control.checks import Fault

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "troubleshooting.md",
    *sorted((ROOT / "docs" / "howto").iterdir()),
]
TOX_IDS = (
    "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719",
    "1E" * 32 + "0" * 12,
)

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


def blocks(kind: str) -> list[tuple[str, str]]:
    """The blocks of a kind, each with its page's name."""
    found = ((page.name, page.read_text("utf-8")) for page in PAGES)
    return [
        (name, block)
        for name, text in found
        for block in re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


TYPED = [
    (name, line[2:])
    for name, block in blocks("console")
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


@pytest.mark.parametrize(("page", "text"), blocks("ini"))
def test_every_configuration_on_the_site_is_accepted(page: str, text: str) -> None:
    text = text.replace("DHTKEY", "1E" * 32).replace("CLIENTKEY", "2D" * 32)
    text = text.replace("office = TOXID", f"office = {TOX_IDS[1]}")
    assert config.parse(text.replace("TOXID", TOX_IDS[0]), page) != config.DEFAULT


def test_every_fault_that_the_doctor_finds_has_its_place() -> None:
    anchors = re.findall(
        r"\{:? ?#([a-z0-9_]+) ?\}", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    )
    assert sorted(anchors) == sorted(fault.value for fault in set(Fault) - NO_FAULTS)
