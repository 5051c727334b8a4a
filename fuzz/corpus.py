"""The kept inputs: real examples, and inputs found by fuzzing that reach more code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import toxproxy
from fuzz.examples import examples
from fuzz.targets import MOST_BYTES, TARGETS

FOLDER = Path(__file__).parent / "corpus"
MOST_KEPT = 12 * 1024  # bytes in a target's folder, examples included
_TOXPROXY = str(Path(toxproxy.__file__).parent)


def inputs(target: str) -> list[Path]:
    """The files of a target's folder."""
    return sorted(path for path in (FOLDER / target).glob("*") if path.is_file())


def write_examples() -> None:
    """Write the inputs of `fuzz.examples` into the corpus."""
    for target, named in examples().items():
        (FOLDER / target).mkdir(parents=True, exist_ok=True)
        for name, data in named.items():
            (FOLDER / target / name).write_bytes(data[:MOST_BYTES])


def keep(target: str, found: Path) -> int:
    """Copy inputs that reach new lines of toxproxy into the corpus, up to `MOST_KEPT` bytes.

    Returns the number of inputs copied.
    """
    known: set[tuple[str, int]] = set()
    room = MOST_KEPT
    for path in inputs(target):
        known |= _reached(target, path.read_bytes())
        room -= path.stat().st_size
    kept = 0
    for path in sorted(found.glob("*"), key=lambda path: (path.stat().st_size, path.name)):
        data = path.read_bytes()
        if len(data) <= room and (new := _reached(target, data) - known):
            (FOLDER / target / path.name).write_bytes(data)
            known |= new
            room -= len(data)
            kept += 1
    return kept


def _reached(target: str, data: bytes) -> set[tuple[str, int]]:
    """The lines of toxproxy that an input reaches."""
    lines: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> Callable[[FrameType, str, object], Any] | None:
        name = frame.f_code.co_filename
        if not name.startswith(_TOXPROXY):
            return None
        lines.add((name, frame.f_lineno))
        return trace

    sys.settrace(trace)
    try:
        TARGETS[target](data)
    finally:
        sys.settrace(None)
    return lines
