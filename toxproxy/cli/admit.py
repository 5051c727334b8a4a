"""`toxproxy allow`, `clients`, `revoke` and `block`: they ask the running server, or change its file."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from toxproxy.address import parse_key
from toxproxy.admission.access import Access
from toxproxy.app.admissions import WHOLE, find, known
from toxproxy.cli.asking import say, say_json
from toxproxy.config.settings import AccessSettings
from toxproxy.control import client
from toxproxy.control.client import NotRunning
from toxproxy.control.encoding import decoded, encoded
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.control.snapshots import Admission, ClientSnapshot, StrangerSnapshot
from toxproxy.errors import ConfigError, StateError, ToxproxyError
from toxproxy.program import report
from toxproxy.program.amounts import counted
from toxproxy.program.logs import Console
from toxproxy.system.state import StateFolder, default_path

_ONE = """\
Anybody who knows the server's Tox ID can ask. Let it in only if your client shows the same words
(in its log, and with toxproxy status)."""
_SEVERAL = """\
Several wait, and strangers may be among them. Let in only the one whose words your client shows
(in its log, and with toxproxy status)."""

_SPAN = re.compile(r"([0-9]{1,6})(min|h|d)")
_SECONDS = {"min": 60, "h": 3600, "d": 86400}


def allow_command(args: argparse.Namespace, console: Console) -> int:
    """Let a client in: the one that is named, or one of those that wait."""
    if (expires := args.expires) is not None:
        expires = until(expires, time.time())
    key = " ".join(args.key) or _chosen(args)
    if key is None:
        return 1
    params = {"key": key, "name": args.name, "expires_unix_s": expires}
    given = {name: value for name, value in params.items() if value is not None}

    def change(access: Access) -> dict[str, object]:
        found = find(access, key)
        access.allow(found, args.name, expires)
        return {"key": found.hex().upper()}

    result, live = _order(args, "allow", given, change)
    who = report.short(result["key"])
    _tell(
        args,
        result,
        f"client {who} is allowed; it connects by itself"
        if live
        else f"no server runs with {_folder(args)}: the client is allowed from the server's next start on",
    )
    return 0


def revoke_command(args: argparse.Namespace, console: Console) -> int:
    """Forget a client that was let in, and end its connections."""

    def change(access: Access) -> dict[str, object]:
        found = find(access, args.key)
        return {"key": found.hex().upper(), "was": Admission(access.revoke(found).value).value}

    result, _ = _order(args, "revoke", {"key": args.key}, change)
    text = f"client {report.short(result['key'])} is revoked"
    if result.get("was") in (Admission.SECRET.value, Admission.ANYONE.value):
        why = "by the secret" if result["was"] == Admission.SECRET.value else "since anyone may"
        text += f"; it came {why} and can come back so: to keep it out: toxproxy block {result['key']}"
    _tell(args, result, text)
    return 0


def block_command(args: argparse.Namespace, console: Console) -> int:
    """Shut a client out."""

    def change(access: Access) -> dict[str, object]:
        found = find(access, args.key)
        access.block(found)
        return {"key": found.hex().upper()}

    result, _ = _order(args, "block", {"key": args.key}, change)
    _tell(args, result, f"client {report.short(result['key'])} is blocked")
    return 0


def clients_command(args: argparse.Namespace, console: Console) -> int:
    """List the clients that may connect."""
    try:
        result = _dict(client.ask(_folder(args), "clients"))
    except NotRunning:
        found = known(Access(AccessSettings(), _existing(args)), {})
        result = {"clients": encoded(found), "count": len(found)}
        print(f"toxproxy: no server runs with {_folder(args)}: this is its file", file=sys.stderr)
    if args.json:
        say_json(result)
        return 0
    now = time.time()
    clients = [decoded(ClientSnapshot, each) for each in result["clients"]]
    for each in clients:
        say(report.client_line(each, now, verbose=args.verbose > 0))
    if not clients:
        say("no clients yet: toxproxy allow lets one in")
    elif (left := result["count"] - len(clients)) > 0:
        say(f"and {counted(left, 'more client')}")
    return 0


# Who waits


def _chosen(args: argparse.Namespace) -> str | None:
    """The key of the waiting client that the owner chooses; None for none."""
    try:
        result = _dict(client.ask(_folder(args), "waiting"))
    except NotRunning:
        raise StateError(
            f"no toxproxy server runs with state {_folder(args)}, so nobody waits: start it, or name the KEY"
        ) from None
    if args.json:
        say_json(result)
        return None
    waiting = [decoded(StrangerSnapshot, each) for each in result["waiting"]]
    if not waiting:
        say("nobody waits to be let in: is the client running, with this server's Tox ID?")
        return None
    say(f"{counted(len(waiting), 'client waits', 'clients wait')} to be let in:\n")
    for number, each in enumerate(waiting, 1):
        say(f"  {number}  {each.words}  ({each.key})")
    say()
    say(_SEVERAL if len(waiting) > 1 else _ONE)
    if not sys.stdin.isatty():
        say("\nTo let one in: toxproxy allow KEY")
        return None
    return _answer(waiting)


def _answer(waiting: list[StrangerSnapshot]) -> str | None:
    try:
        if len(waiting) == 1:
            return waiting[0].key if input("Let it in? [y/N] ").strip().lower() in ("y", "yes") else None
        text = input(f"Which one? [1 to {len(waiting)}, or nothing] ").strip()
    except EOFError:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(waiting):
        return waiting[int(text) - 1].key
    return None


# The server, or its file


def _order(
    args: argparse.Namespace,
    method: str,
    params: dict[str, object],
    change: Callable[[Access], dict[str, object]],
) -> tuple[dict[str, Any], bool]:
    """What the running server answers; without one, change its file. And whether it is running."""
    key = str(params["key"])
    if len(key) >= WHOLE or not _folder(args).exists():  # where there are no clients, it cannot be a name
        try:
            parse_key(key)
        except ValueError as error:
            raise ConfigError(f"{method}: {error}") from None
    try:
        return _dict(client.ask(_folder(args), method, **params)), True
    except NotRunning:
        pass
    except ControlError as error:
        if error.code is ErrorCode.BAD_PARAMS:
            raise ConfigError(f"{method}: {error}") from None
        raise ToxproxyError(f"the server says: {error}") from None
    state = StateFolder(_folder(args))
    try:
        with state.lock():
            return change(Access(AccessSettings(), state)), False
    except ValueError as error:
        raise ConfigError(f"{method}: {error}") from None


def _folder(args: argparse.Namespace) -> Path:
    return Path(args.state or default_path("server"))


def _existing(args: argparse.Namespace) -> StateFolder:
    """The state folder; a list makes none. Raises `StateError`."""
    folder = _folder(args)
    if not folder.exists():
        raise StateError(f"no toxproxy server has run with state {folder}")
    return StateFolder(folder)


def _tell(args: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    if args.json:
        say_json(result)
    else:
        say(text)


def _dict(result: object) -> dict[str, Any]:
    if not isinstance(result, dict):
        raise ControlError(ErrorCode.MALFORMED, "the server gave no object: is it another version?")
    return result


def until(text: str, now: float) -> int:
    """The end of a date, or of a time from now, in seconds since 1970. Raises `ConfigError`."""
    if span := _SPAN.fullmatch(text):
        return int(now) + int(span[1]) * _SECONDS[span[2]]
    try:
        day = datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise ConfigError(
            f"--expires: expected a date as 2027-01-31 or a time as 90min, 12h or 7d, found {text!r}"
        ) from None
    return int((day + timedelta(days=1)).astimezone().timestamp())
