"""What a rival is: a tunnel to compare with."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.program import ProgramFailed
from bench.tunnels import Course, Tunnel

_ATTEMPTS, _PAUSE = 400, 0.05  # seconds

Crossing = Callable[[Course], AbstractAsyncContextManager[Tunnel]]


@dataclass(frozen=True)
class Rival:
    """A tunnel to compare with, and how to run it `cross` a network.

    `missing` says what it needs and where that is to be had. It is empty if the rival is here.
    """

    name: str
    missing: str
    cross: Crossing


def find(program: str) -> str | None:
    """The path of a program, which may be one for administrators."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def programs(package: str, *names: str) -> str:
    """What is missing if not all of these programs are here, which are in a package of Debian."""
    return "" if all(map(find, names)) else f"apt-get install {package}"


def module(name: str) -> str:
    """What is missing if this module of PyPI is not installed."""
    return "" if importlib.util.find_spec(name) is not None else f"pip install {name}"


def output(*command: str, given: str = "") -> str:
    """What a command prints. Raises `ProgramFailed`."""
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ProgramFailed(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()


def until_done(*command: str) -> None:
    """Run a command again until it succeeds: a device is not there at once. Raises `ProgramFailed`."""
    for _ in range(_ATTEMPTS):
        if not subprocess.run(command, capture_output=True, check=False).returncode:
            return
        time.sleep(_PAUSE)
    output(*command)
