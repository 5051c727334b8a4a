"""Asks the end that runs here, for a command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any, TypeVar

from toxproxy.config.advice import Role
from toxproxy.control import client
from toxproxy.control.client import NotRunning
from toxproxy.control.encoding import decoded
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.errors import ConfigError, StateError
from toxproxy.program.logs import escaped
from toxproxy.system.state import default_path

T = TypeVar("T")

_ROLES: tuple[Role, ...] = ("server", "client")


def say(text: str = "") -> None:
    """Print lines. What others wrote cannot control the terminal."""
    for line in text.split("\n"):
        print(escaped(line), flush=True)


def say_json(result: object) -> None:
    """Print a JSON object on one line."""
    print(json.dumps(result), flush=True)


def asked(args: argparse.Namespace, method: str, **params: object) -> Iterator[object]:
    """The results of a request; params that are None are left out.

    The end is that of --state or --role, or the only one that runs here. Raises `StateError` with what to
    do where none runs, and what `client.asked` raises.
    """
    given = {name: value for name, value in params.items() if value is not None}
    folder = running(args)
    try:
        yield from client.asked(folder, method, **given)
    except NotRunning:
        raise _nothing_runs(args, [folder]) from None


def ask(args: argparse.Namespace, method: str, **params: object) -> object:
    """The only result of a request; see `asked`."""
    return next(iter(list(asked(args, method, **params))), None)


def read(kind: type[T], result: object) -> T:
    """A dataclass from a result. Raises `ControlError` if the running end is another version."""
    try:
        return decoded(kind, result)
    except ValueError as error:
        raise ControlError(ErrorCode.MALFORMED, foreign(error)) from None


def fields(result: object) -> Any:
    """A result that is an object. Raises `ControlError` as `read`."""
    if not isinstance(result, dict):
        raise ControlError(ErrorCode.MALFORMED, foreign("no object"))
    return result


def foreign(why: object) -> str:
    """What is said of an answer that this version does not understand."""
    return f"the running toxproxy is another version than this command ({why}): use the same for both"


def running(args: argparse.Namespace, *roles: Role) -> Path:
    """The state folder of the end that runs here. Raises `StateError`, `ConfigError` where there are two."""
    if args.state is not None:
        return Path(args.state)
    role: Role | None = getattr(args, "role", None)
    folders = [default_path(each) for each in ([role] if role else _ROLES)]
    found = [folder for folder in folders if client.runs(folder)]
    if not found:
        raise _nothing_runs(args, folders)
    if len(found) > 1:
        raise ConfigError("a server and a client run here: say which with --role server or --role client")
    return found[0]


def _nothing_runs(args: argparse.Namespace, folders: list[Path]) -> StateError:
    state = f" --state {quote(str(args.state))}" if args.state is not None else ""
    commands = {"server": f"toxproxy server{state}", "client": f"toxproxy client{state} CONFIG"}
    role = getattr(args, "role", None)
    start = commands[role] if role else f"{commands['server']}, or {commands['client']}"
    return StateError(f"no toxproxy runs with state {' or '.join(map(str, folders))}: start it with: {start}")
