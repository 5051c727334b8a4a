"""Emulated networks for tests. There can be one at a time, so the processes of a test run take turns."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.emulator import Emulator, EmulatorError


@contextmanager
def emulator() -> Iterator[Emulator]:
    """An emulator, as soon as no other test has one. Skips the test where there can be none."""
    with Path(__file__).open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        try:
            with Emulator() as made:
                yield made
        except EmulatorError as error:
            pytest.skip(str(error))
