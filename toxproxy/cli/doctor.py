"""`toxproxy doctor`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toxproxy import __version__, config
from toxproxy.app.trial import libtoxcore, state, trial
from toxproxy.cli.asking import foreign, read, say, say_json
from toxproxy.cli.guide import more_about
from toxproxy.config.settings import Config
from toxproxy.control import client
from toxproxy.control.checks import Check, CheckKind, Fault, fine, ordered, verdict, wrong
from toxproxy.control.client import NotRunning
from toxproxy.control.encoding import encoded
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.control.snapshots import Snapshot
from toxproxy.errors import ConfigError, StateError, ToxproxyError
from toxproxy.program import diagnosis, runner
from toxproxy.program.bundle import bundle
from toxproxy.program.logs import Console
from toxproxy.program.progress import Waiting
from toxproxy.system.release import release
from toxproxy.system.state import default_path


def doctor_command(args: argparse.Namespace, console: Console) -> int:
    """Find what is wrong, and say what to do."""
    settings, checks, snapshot = config.DEFAULT, [], None
    role, broken = args.role, False
    if args.config is not None:
        try:
            settings = config.load(args.config)
            if role == "client":
                settings.require_client(str(args.config))
            checks.append(fine(CheckKind.CONFIGURATION))
            role = role or ("client" if settings.listeners else "server")
        except ConfigError as error:
            checks.append(wrong(CheckKind.CONFIGURATION, Fault.CONFIGURATION_WRONG, detail=str(error)))
            broken = True
    folder = _folder(args, role)
    if broken:
        checks += [libtoxcore(), state(folder)]
    else:
        more, snapshot = runner.run_loop(_examined(settings, folder, console))
        checks += more
    checks = list(ordered(checks))
    if args.bundle is not None:
        known = settings if args.config is not None and not broken else None
        _write(args.bundle, "\n".join(bundle(checks, snapshot, known, _machine())) + "\n")
    _print(args, checks)
    return 0 if verdict(checks) is None else 1


def _print(args: argparse.Namespace, checks: Sequence[Check]) -> None:
    worst = verdict(checks)
    if args.json:
        result = {"healthy": worst is None, "verdict": encoded(worst), "summary": diagnosis.summary(checks)}
        say_json({**result, "checks": encoded(list(checks))})
        return
    for line in diagnosis.lines(checks):
        say(line)
    if worst is not None and worst.fault is not None and (more := more_about(worst.fault.value)) is not None:
        say(f"\n{more}")
    if args.bundle is not None:
        say(f"\n{args.bundle} is written: no keys, IDs, secrets, names, addresses or paths are in it.")


async def _examined(settings: Config, folder: Path, console: Console) -> tuple[list[Check], Snapshot | None]:
    """What the end that runs with this folder finds; without one, what can be found here."""
    waiting = Waiting(console)
    waiting.show("trying the network and the other end")
    try:
        try:
            result = await asyncio.to_thread(client.ask, folder, "checkup")
        except NotRunning:
            waiting.show("looking for the Tox network")
            return list(await trial(settings, folder)), None
        except ControlError as error:
            if error.code is ErrorCode.UNKNOWN_METHOD:
                raise ToxproxyError(foreign("it has no checkup")) from None
            raise
        except StateError:
            found = state(folder)
            if found.fault is None:
                raise
            return [libtoxcore(), found], None
    finally:
        waiting.close()
    checks, snapshot = _told(result)
    return [*checks, state(folder, running=True)], snapshot


def _told(result: Any) -> tuple[list[Check], Snapshot]:
    if not isinstance(result, dict) or not isinstance(result.get("checks"), list):
        raise ControlError(ErrorCode.MALFORMED, foreign("no checks"))
    return [read(Check, each) for each in result["checks"]], read(Snapshot, result.get("snapshot"))


def _folder(args: argparse.Namespace, role: str | None) -> Path:
    """The state folder: as said; of the role; of the only end that runs; of a server."""
    if args.state is not None:
        return Path(args.state)
    if role is not None:
        return default_path(role)
    running = [folder for folder in map(default_path, ("client", "server")) if _runs(folder)]
    if len(running) > 1:
        raise ConfigError("a server and a client run here: say which with --role server or --role client")
    return running[0] if running else default_path("server")


def _runs(folder: Path) -> bool:
    try:
        return client.runs(folder)
    except StateError:
        return True  # it is looked into, and said why it cannot be asked


def _machine() -> dict[str, str]:
    """Versions."""
    about = libtoxcore().about or "missing"
    return {
        "toxproxy": __version__,
        "libtoxcore": about,
        "Python": sys.version.split()[0],
        "system": release(),
    }


def _write(path: Path, text: str) -> None:
    """Write a new file, which only this user reads. Raises `ToxproxyError`."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii", errors="replace") as file:
            file.write(text)
    except OSError as error:
        raise ToxproxyError(f"the bundle {path} cannot be written: {error.strerror}") from None
