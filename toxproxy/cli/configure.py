"""`toxproxy check` and `toxproxy reload`: what a configuration file says, and having it read again."""

from __future__ import annotations

import argparse
import sys

from toxproxy import config
from toxproxy.app.reloading import summary
from toxproxy.cli.asking import ask, say, say_json
from toxproxy.cli.run import client_settings
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.control.encoding import decoded
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.control.snapshots import ReloadSnapshot
from toxproxy.errors import ConfigError
from toxproxy.program import meaning
from toxproxy.program.logs import Console, escaped


def check_command(args: argparse.Namespace, console: Console) -> int:
    """Say what a file means, or what is wrong with it. Nothing is started."""
    try:
        settings = config.load(args.config)
        roles: tuple[Role, ...] = (args.role,) if args.role else meaning.roles(settings)
        if "client" in roles:
            client_settings(args.config)
    except ConfigError as error:
        _complain(f"toxproxy: {error}")
        return 1
    for role in roles:
        for line in meaning.lines(settings, role):
            say(line)
    for warning in dict.fromkeys(each for role in roles for each in advice.warnings(settings, role)):
        _complain(f"warning: {warning}")
    return 0


def reload_command(args: argparse.Namespace, console: Console) -> int:
    """Have the end that runs here read its configuration again."""
    result = ask(args, "reload")
    if args.json:
        say_json(result)
        return 0
    try:
        done = decoded(ReloadSnapshot, result)
    except ValueError as error:
        text = f"the running toxproxy is another version than this command ({error}): use the same for both"
        raise ControlError(ErrorCode.MALFORMED, text) from None
    for line in summary(done):
        say(line)
    for warning in done.warnings:
        _complain(f"warning: {warning}")
    return 0


def _complain(text: str) -> None:
    print(escaped(text), file=sys.stderr)
