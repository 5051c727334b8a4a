"""`toxproxy connect` where no client runs: one is started for this connection alone."""

from __future__ import annotations

import argparse
import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from toxproxy import config
from toxproxy.address import parse_tox_id
from toxproxy.app.client import Client
from toxproxy.cli.connect import carried, parse_where
from toxproxy.config.settings import Config, NamedExit
from toxproxy.control.client import NotRunning
from toxproxy.errors import ConfigError
from toxproxy.program import runner
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.logs import Console
from toxproxy.system.state import StateFolder, default_path


def connect_command(args: argparse.Namespace, console: Console) -> int:
    """Connect standard input and output with a target."""
    try:
        exit, host, port = parse_where(args.where)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    folder = Path(args.state or default_path("client"))
    try:
        return carried(folder, exit, host, port)
    except NotRunning:
        settings = _settings(args.config, exit)
    except KeyboardInterrupt:
        return 1
    if not args.verbose:
        logging.getLogger("toxproxy").setLevel(logging.WARNING)
    return runner.run_loop(_alone(settings, folder, exit, host, port))


def _settings(file: Path | None, exit: str | None) -> Config:
    """What the client is started with: no ports are listened on. Raises `ConfigError`."""
    if file is not None:
        settings = config.load(file)
        settings.require_client(str(file))
        named = settings.exits + tuple(
            NamedExit(str(server), server, 0)
            for server in settings.servers
            if server.public_key not in {each.server.public_key for each in settings.exits}
        )
        return replace(settings, exits=named, forwards=(), proxies=())
    try:
        server = parse_tox_id(exit or "")
    except ValueError:
        raise ConfigError(
            "no client runs here: start one with toxproxy client CONFIG, or name the configuration with "
            "--config FILE, or the server by its Tox ID: toxproxy connect TOXID HOST PORT"
        ) from None
    return replace(config.DEFAULT, exits=(NamedExit("server", server, 0),))


async def _alone(settings: Config, folder: Path, exit: str | None, host: str, port: int | None) -> int:
    runner.confine()
    with Interrupts() as interrupts:
        async with interrupts.ending(), Client(settings, StateFolder(folder)):
            return await asyncio.to_thread(carried, folder, exit, host, port)
    return 1
