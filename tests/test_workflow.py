"""The workflow that public forges run: what it may do, and that its commands are those of this project."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".github" / "workflows" / "ci.yml"
TEXT = FILE.read_text("utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, Any] = WORKFLOW["jobs"]


def steps() -> Iterator[dict[str, Any]]:
    for job in JOBS.values():
        yield from job["steps"]


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def test_it_may_read_the_code_and_nothing_else() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in JOBS.values())
    assert "secrets" not in TEXT
    assert "pull_request_target" not in TEXT
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_each_action_is_one_commit_whose_release_is_named() -> None:
    used = re.findall(r"uses: (\S+)(.*)", TEXT)
    assert len(used) == sum("uses" in step for step in steps()) > 5
    for action, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment)
    commits: dict[str, set[str]] = {}
    for action, _ in used:
        name, _, commit = action.partition("@")
        commits.setdefault(name, set()).add(commit)
    assert [name for name, found in commits.items() if len(found) > 1] == []


@pytest.mark.parametrize("job", JOBS)
def test_each_job_ends_and_runs_on_a_named_system(job: str) -> None:
    assert 0 < JOBS[job]["timeout-minutes"] <= 90
    assert "latest" not in JOBS[job]["runs-on"]


def test_every_python_that_the_project_is_for_is_tried() -> None:
    found = {version for job in JOBS.values() for version in job["strategy"]["matrix"].get("python", ())}
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    readme = re.search(r"Python (\d\.\d+) to (\d\.\d+)", (ROOT / "README.md").read_text("utf-8"))
    assert readme
    assert (min(found), max(found)) == readme.groups()
    assert required == f">={min(found)}"


def test_what_it_runs_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    asked = "\n".join(map(commands, JOBS))
    for target in re.findall(r"\bmake (\w+)", asked):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r"tests/\S+", asked):
        assert (ROOT / path).exists(), path
    assert ".ci/run" in commands("debian")
    assert "make test" in commands("ubuntu")
    assert "make test" in commands("macos")
    assert "toxproxy demo" in commands("windows")


def test_its_caches_go_by_the_lock() -> None:
    for step in steps():
        given = step.get("with", {})
        if "cache" in given:
            assert given["cache-dependency-path"] == "requirements-test.lock"
        if step.get("uses", "").startswith("actions/cache@") and "pip" in given["path"]:
            assert "hashFiles('requirements-test.lock')" in given["key"]


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="no actionlint here")
def test_actionlint_finds_nothing() -> None:
    done = subprocess.run(["actionlint", FILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
