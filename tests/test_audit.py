"""The locked dependencies, checked without a network, and what `tools/audit` prints for an answer."""

from __future__ import annotations

import re
import runpy
import tomllib
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]

audit: Any = SimpleNamespace(**runpy.run_path(str(ROOT / "tools" / "audit")))

SOUND = {"name": "h11", "version": "0.16.0", "vulns": []}
SKIPPED = {"name": "lz4", "skip_reason": "Dependency not found on PyPI"}
VULNERABLE = {"name": "h11", "version": "0.14.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"]}]}


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted(*groups: list[str]) -> list[Requirement]:
    texts = [*project()["build-system"]["requires"], *project()["project"]["dependencies"], *chain(*groups)]
    return [Requirement(text) for text in texts if not text.startswith("toxproxy")]


def locked(lock: Path) -> dict[str, tuple[str, int]]:
    """For each name its version and the number of its hashes."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)[1:]
    pins = [(Requirement(entry.partition(" \\\n")[0]), entry.count("--hash=sha256:")) for entry in entries]
    return {canonicalize_name(pin.name): (str(pin.specifier)[2:], hashes) for pin, hashes in pins}


RUN, TEST = locked(audit.LOCK), locked(audit.TEST_LOCK)


@pytest.mark.parametrize(
    ("versions", "requirements"),
    [(RUN, wanted()), (TEST, wanted(*project()["project"]["optional-dependencies"].values()))],
    ids=["run", "test"],
)
def test_every_dependency_is_locked_to_a_version_that_the_project_allows(
    versions: dict[str, tuple[str, int]], requirements: list[Requirement]
) -> None:
    assert len(versions) > len(requirements) > 7
    for requirement in requirements:
        assert canonicalize_name(requirement.name) in versions, f"{requirement}: run tools/audit lock"
        version, _ = versions[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}: {version}; run tools/audit lock"


def test_both_locks_have_the_same_versions() -> None:
    assert RUN.items() <= TEST.items()


@pytest.mark.parametrize("lock", [audit.LOCK, audit.TEST_LOCK])
def test_an_extra_that_is_asked_for_is_in_the_lock(lock: Path) -> None:
    """Without it pip takes the newest version, whose hash is not locked, as soon as there is one."""
    assert re.search(r"^python-socks\[asyncio\]==", lock.read_text(), re.MULTILINE)
    assert (lock == audit.LOCK) is not bool(re.search(r"^coverage\[toml\]==", lock.read_text(), re.MULTILINE))


def test_every_locked_version_has_its_hashes() -> None:
    assert [name for name, (_, hashes) in TEST.items() if not hashes] == []


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")],
)
def test_uvloop_is_a_dependency_where_there_are_wheels(python: str, system: str, machine: str) -> None:
    assert wants_uvloop("cpython", python, system, machine)


@pytest.mark.parametrize(
    ("implementation", "python", "system", "machine"),
    [
        ("pypy", "3.11", "linux", "x86_64"),
        ("cpython", "3.11", "linux", "riscv64"),
        ("cpython", "3.11", "linux", "i686"),
        ("cpython", "3.11", "win32", "AMD64"),
        ("cpython", "3.15", "linux", "x86_64"),
    ],
)
def test_uvloop_is_not_a_dependency_where_there_are_no_wheels(
    implementation: str, python: str, system: str, machine: str
) -> None:
    assert not wants_uvloop(implementation, python, system, machine)


def wants_uvloop(implementation: str, python: str, system: str, machine: str) -> bool:
    (uvloop,) = (requirement for requirement in wanted() if requirement.name == "uvloop")
    assert uvloop.marker is not None
    return uvloop.marker.evaluate(
        {
            "implementation_name": implementation,
            "python_version": python,
            "sys_platform": system,
            "platform_machine": machine,
        }
    )


def test_a_vulnerable_dependency_is_named_with_the_version_that_fixes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert not audit.judge([VULNERABLE, SKIPPED])
    told = capsys.readouterr().out
    assert "h11 0.14.0: PYSEC-1, fixed in 0.16.0" in told
    assert "lz4: not audited: " in told
    assert "1 of 2 dependencies audited: 1 vulnerable" in told


def test_sound_dependencies_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.judge([SOUND])
    assert capsys.readouterr().out == "1 of 1 dependencies audited: none vulnerable\n"


def test_an_answer_about_no_dependency_is_not_a_good_result() -> None:
    with pytest.raises(audit.Unreachable):
        audit.judge([SKIPPED])


def test_locks_that_differ_only_in_hashes_pin_the_same_versions() -> None:
    one, other = ("h11==0.16.0 \\\n    --hash=sha256:" + digit * 64 for digit in "ab")
    assert audit.pins(one) == audit.pins(other) == ["h11==0.16.0"]
