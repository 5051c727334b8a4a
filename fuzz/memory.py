"""A target under valgrind, which sees what C code does to its memory: here, ENet.

Python's own allocator is switched off for this (PYTHONMALLOC), since valgrind cannot see into it.
What valgrind says of Python and its libraries is left out: reported is what has ENet near the top of a
stack, be it where memory was used or where it was allocated. Far down it says nothing: Python collects
its garbage wherever it happens to be, within a call of ENet's too.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VALGRIND = shutil.which("valgrind")
_OPTIONS = (
    "--tool=memcheck",
    "--track-origins=yes",
    "--leak-check=no",
    "--error-limit=no",
    "--num-callers=30",
    "--keep-debuginfo=yes",
)
_ENET = re.compile(r"\benet_|\(enet\.c:|/enet\.[^/]*\.so")
_TOP = 5  # frames: malloc or memcpy, what wraps them, and who asked
_STACK = re.compile(r"^ *at 0x.*(?:\n *by 0x.*)*", re.MULTILINE)
_PREFIX = re.compile(r"^==\d+== ?", re.MULTILINE)
_PATIENCE = 300  # seconds beside those of fuzzing: valgrind makes everything fifty times slower


def complaints(target: str, seconds: int, corpus: Path) -> tuple[str, list[str]]:
    """What a target said, and each use of memory in which ENet did what it may not.

    Raises `subprocess.CalledProcessError` where the target broke, and `TimeoutExpired`.
    """
    assert VALGRIND is not None
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        command = [VALGRIND, *_OPTIONS, f"--log-file={log}", sys.executable, "-m", "fuzz.blind"]
        done = subprocess.run(
            [*command, target, str(seconds), folder, folder, str(corpus)],
            env=os.environ | {"PYTHONMALLOC": "malloc"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=seconds + _PATIENCE,
        )
        found = about_enet(log.read_text(errors="replace"))
    if done.returncode and not found:
        raise subprocess.CalledProcessError(done.returncode, target, done.stdout)
    return done.stdout, found


def about_enet(log: str) -> list[str]:
    """The complaints of valgrind's that are about memory that ENet used or allocated."""
    blocks = _PREFIX.sub("", log).split("\n\n")
    return [block.strip() for block in blocks if any(map(_is_enets, _STACK.findall(block)))]


def _is_enets(stack: str) -> bool:
    return any(map(_ENET.search, stack.splitlines()[:_TOP]))
