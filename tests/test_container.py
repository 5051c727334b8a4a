"""The files for a container: what they copy is there, and what they run is a command line of this version."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from toxproxy.cli.parser import make_parser

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "container"
BUILD = (FOLDER / "Containerfile").read_text()
COMPOSE = (FOLDER / "compose.yaml").read_text()


def instructions(name: str) -> list[str]:
    """What follows an instruction, its lines joined."""
    text = re.sub(r"\\\n\s*", "", BUILD)
    return re.findall(rf"^\s*{name}\s+(.*)$", text, re.MULTILINE)


def test_what_is_copied_is_there_and_is_all_that_the_project_is_made_of() -> None:
    copied = [words.split()[:-1] for words in instructions("COPY") if not words.startswith("--from")]
    names = {name for words in copied for name in words}
    assert [name for name in names if not (ROOT / name).exists()] == []
    allowed = (FOLDER / "Containerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} == names
    assert names >= {"toxproxy", "man", "pyproject.toml", "requirements.lock", "README.md", "LICENSE"}


def test_only_what_is_locked_is_installed() -> None:
    (locked,) = [each for each in instructions("RUN") if "requirements.lock" in each]
    assert "--require-hashes --only-binary :all: -r requirements.lock" in locked
    (own,) = [each for each in instructions("RUN") if "--no-deps" in each]
    assert "--no-index" in own


def test_it_does_not_run_as_root() -> None:
    assert instructions("USER") == ["10001:10001"]


@pytest.mark.parametrize("more", [instructions("CMD")[-1], '["client", "/client.ini"]'])
def test_what_it_runs_is_a_command_line(more: str) -> None:
    program, *before = json.loads(instructions("ENTRYPOINT")[0])
    args = make_parser().parse_args([*before, *json.loads(more)])
    assert (program, args.state) == ("toxproxy", Path("/state"))
    assert str(args.state) in instructions("VOLUME")


def test_whether_it_works_is_asked_of_the_running_end() -> None:
    _, *arguments = json.loads(instructions("HEALTHCHECK")[0].partition("CMD ")[2])
    args = make_parser().parse_args(arguments)
    assert (args.state, args.run.__name__) == (Path("/state"), "status_command")


def test_compose_builds_this_file_and_runs_command_lines() -> None:
    assert "dockerfile: container/Containerfile" in COMPOSE
    commands = re.findall(r"command: \[(.*)\]", COMPOSE)
    assert len(commands) == 2
    for each in commands:
        words = each.split(", ")
        assert make_parser().parse_args(words).config == Path(words[1])
        assert f":{words[1]}:ro" in COMPOSE
