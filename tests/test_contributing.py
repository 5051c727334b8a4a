"""What CONTRIBUTING.md says about where things are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "toxproxy"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ROOMS = TEXT[TEXT.index("| room |") : TEXT.index("Some places to find")]


def test_every_folder_and_module_at_the_top_has_its_row() -> None:
    named = set(
        re.findall(
            r"`([\w./]+)`", "\n".join(line.split("|")[1] for line in ROOMS.splitlines() if "|" in line)
        )
    )
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    modules = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")}
    assert named == folders | modules


def test_every_module_that_a_row_names_is_in_its_room() -> None:
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", ROOMS, re.MULTILINE)
    named = [PACKAGE / room / f"{name}.py" for room, what in rows for name in re.findall(r"`(\w+)`", what)]
    assert len(named) > 40
    assert [path for path in named if not path.exists()] == []


def test_every_module_of_a_room_is_named_in_its_row() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", ROOMS, re.MULTILINE))
    modules = [path for path in PACKAGE.glob("*/*.py") if not path.name.startswith("__")]
    missing = [path for path in modules if f"`{path.stem}`" not in rows[path.parent.name]]
    assert missing == []


def test_every_path_that_it_names_exists() -> None:
    paths = re.findall(r"`((?:\w+/)+\w+\.py)`", TEXT)
    assert len(paths) > 10
    assert [path for path in paths if not (PACKAGE / path).exists() and not (ROOT / path).exists()] == []


def test_at_most_a_dozen_modules_are_at_the_top() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 12
