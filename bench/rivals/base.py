"""What a rival is: a tunnel to compare with."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from bench.tunnels import Course, Tunnel

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
