"""How a command is added to the parser, and the options that every command has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from toxproxy.config.advice import Role
from toxproxy.program.logs import Console
from toxproxy.system.state import default_shown

Command = Callable[[argparse.Namespace, Console], int]

ROLES: tuple[Role, ...] = ("server", "client")
# The roles whose state a command may use; without an entry: either.
_STATES: dict[str, tuple[Role, ...]] = {
    "server": ("server",),
    "client": ("client",),
    "connect": ("client",),
    "route": ("client",),
    "pac": ("client",),
    "invite": ("server",),
    "join": ("client",),
    "allow": ("server",),
    "clients": ("server",),
    "revoke": ("server",),
    "block": ("server",),
}


class Add(Protocol):
    """Adds a command: its name, what runs it, what it does in a line, and more words."""

    def __call__(
        self, name: str, run: Command, text: str, epilog: str | None = None
    ) -> argparse.ArgumentParser: ...


def adder(commands: argparse._SubParsersAction[Any]) -> Add:
    """Adds to these commands."""

    def add(name: str, run: Command, text: str, epilog: str | None = None) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        add_common(command, *_STATES.get(name, ROLES))
        return command

    return add


def add_common(parser: argparse.ArgumentParser, *roles: Role) -> None:
    """The options of every command; `roles` are those whose state it may use."""
    states = " or ".join(default_shown(role).replace("%", "%%") for role in roles)
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"folder of the identity and the allowed clients (default: {states})",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="log more; -vv: also tracebacks of failures",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=argparse.SUPPRESS,
        help="format of the log, which goes to stderr (default: text)",
    )
