"""The documentation's site: it builds without a warning, and what it has people type is what there is.

What the pages have people type is typed in `tests/test_pages.py`. Here is looked at that nothing is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.documents import DOCUMENTS, ROOT, blocks, fenced, filled_in, read, typed
from tests.test_pages import ELSEWHERE, PAGES, UNWALKED, elsewhere
from toxproxy import config
from toxproxy.cli.parser import make_parser
from toxproxy.control.checks import Fault
from toxproxy.control.findings import FindingKind
from toxproxy.inbound.answers import ANSWERS

#: Why something was not tried: no fault that anybody could mend.
NO_FAULTS = {Fault.NOT_RUNNING, Fault.NOT_CONNECTED, Fault.NOT_ASKED_FOR, Fault.NOT_KNOWN_THERE}
#: What begins like a command, and is a text of the protocol.
NO_COMMANDS = {"toxproxy pairing 1"}

BLOCKS = [
    (page, line.typed)
    for page in DOCUMENTS
    for kind, block in fenced(read(page))
    for line in typed(kind, block)
]


def within(page: str) -> Iterator[str]:
    """The code that stands in a page's sentences."""
    text = re.sub(r"^( *)```.*?^\1```$", "", read(page), flags=re.DOTALL | re.MULTILINE)
    return (code.replace("\\|", "|") for code in re.findall(r"`([^`\n]+)`", text))


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    site = tmp_path / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(site)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip(), done.stdout.strip()) == (0, "", "")
    assert "toxproxy join" in (site / "reference" / "commands.html").read_text()
    assert "open_connection" in (site / "reference" / "library.html").read_text()
    first = (site / "index.html").read_text()
    assert '<span class="gp">' in first, "the prompt is marked, so that it is not copied"


def test_every_answer_of_a_proxy_port_is_explained() -> None:
    rows = re.findall(r"^\| (\d) \| ([\d, ]+) \|", read("docs/troubleshooting.md"), re.MULTILINE)
    explained = {(int(code), int(status)) for code, several in rows for status in several.split(",")}
    assert explained == {(answer.socks5, answer.status) for answer in ANSWERS.values()}


def test_pictures_are_small() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".svg", ".webp")]
    assert len(pictures) > 2
    assert [path for path in pictures if path.stat().st_size > 200_000] == []


def test_every_document_is_a_page() -> None:
    pages = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text()))
    assert {page.removeprefix("docs/") for page in DOCUMENTS if page.startswith("docs/")} <= pages


@pytest.mark.parametrize(("page", "line"), BLOCKS)
def test_every_line_is_typed_by_a_test_or_named_as_not(page: str, line: str) -> None:
    assert page in (*PAGES, *UNWALKED) or elsewhere(line) is not None, f"{page}: what types {line}?"


@pytest.mark.parametrize("begins", ELSEWHERE)
def test_what_is_said_of_a_line_is_so(begins: str) -> None:
    assert any(line.startswith(begins) for _, line in BLOCKS), "no page has such a line any more"
    where = ELSEWHERE[begins]
    if not where.startswith("not run: "):
        assert re.search(rf"\b{begins.split()[-1]}\b", read(where)), f"{where} does not run {begins}"
    for file in re.findall(r"tests/\S+\.py", where):
        assert (ROOT / file).exists()


@cache
def parsers() -> dict[str, argparse.ArgumentParser]:
    """The commands, by their names."""
    found: dict[str, argparse.ArgumentParser] = {}

    def look(parser: argparse.ArgumentParser) -> None:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    found[f"{parser.prog} {name}".partition(" ")[2]] = below
                    look(below)

    look(make_parser())
    return found


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_command_in_a_sentence_is_one(page: str) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    lines = [line for of, line in BLOCKS if of == page]
    for code in [*within(page), *lines]:
        words = re.sub(r"^sudo ", "", code).split()
        if words[:1] == ["make"] and len(words) > 1:
            assert [word for word in words[1:2] if "=" not in word and word not in targets] == [], code
        elif words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, code
        elif (
            code not in NO_COMMANDS
            and words[:1] == ["toxproxy"]
            and len(words) > 1
            and re.fullmatch(r"[a-z]+", words[1])
        ):
            name = " ".join(words[1:3]) if words[1] == "service" and len(words) > 2 else words[1]
            assert name in parsers(), f"{page}: {code}"
            known = {option for action in parsers()[name]._actions for option in action.option_strings}
            options = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(words[2:])))
            assert options <= known, f"{page}: {code}"


@pytest.mark.parametrize(("page", "line"), [each for each in BLOCKS if each[1].startswith("toxproxy ")])
def test_every_command_in_a_block_parses(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    end = words.index(">") if ">" in words else len(words)
    make_parser().parse_args(words[1:end])  # ends the process where it is none


@pytest.mark.parametrize(
    ("page", "text"), [(page, text) for page in DOCUMENTS for text in blocks(read(page), "ini")]
)
def test_every_configuration_is_accepted(page: str, text: str) -> None:
    assert config.parse(filled_in(text), page) != config.DEFAULT


def test_every_fault_that_the_doctor_finds_has_its_place() -> None:
    anchors = re.findall(r"\{:? ?#([a-z0-9_]+) ?\}", read("docs/troubleshooting.md"))
    assert len(set(anchors)) == len(anchors)
    wanted = {fault.value for fault in set(Fault) - NO_FAULTS} | {kind.value for kind in FindingKind}
    assert set(anchors) == wanted
