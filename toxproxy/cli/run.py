"""`toxproxy server`, `client`, `demo` and `id`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from pathlib import Path

from toxproxy import config, demo, web
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.config.settings import DEFAULT_PERMIT, Config
from toxproxy.errors import ConfigError
from toxproxy.program import report, runner
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.logs import Console
from toxproxy.program.progress import Progress
from toxproxy.rules import parse_rules
from toxproxy.system.state import StateFolder, default_path, option
from toxproxy.tox.identity import tox_id
from toxproxy.tox.node import ConnectionStatus

log = logging.getLogger(__name__)


def _state(args: argparse.Namespace, role: Role) -> StateFolder:
    return StateFolder(args.state or default_path(role))


def server_command(args: argparse.Namespace, console: Console) -> int:
    """Run the far end."""
    settings = server_settings(args)
    _warn(settings, "server")

    async def serve() -> None:
        server = Server(settings, _state(args, "server"))
        if args.config:
            server.reloader.source = lambda: server_settings(args)
        await runner.run(
            server,
            beside=web.beside(server),
            started=lambda: print(_invitation(server, args), flush=True),
            ready_file=args.ready_file,
        )

    runner.run_loop(serve())
    return 0


def server_settings(args: argparse.Namespace) -> Config:
    """What the file and the options say to a server. Raises `ConfigError`."""
    settings = config.load(args.config) if args.config else config.DEFAULT
    return settings if args.permit is None else _permitting(settings, args.permit)


def client_settings(file: Path) -> Config:
    """What a file says to a client. Raises `ConfigError`."""
    settings = config.load(file)
    settings.require_client(str(file))
    return settings


def _permitting(settings: Config, text: str) -> Config:
    """The settings with the rules of --permit. Raises `ConfigError`."""
    if settings.access.permit is not None:
        raise ConfigError(
            "--permit: expected no permit in [access] of the configuration file, found one: remove either"
        )
    try:
        return replace(settings, access=replace(settings.access, permit=parse_rules(text)))
    except ValueError as error:
        raise ConfigError(f"--permit: {error}") from None


def _invitation(server: Server, args: argparse.Namespace) -> str:
    """The text that a server prints for its owner: how to connect the first client."""
    own_id, access = server.node.tox_id, server.config.access
    text = f"""\
The Tox ID of this server:

  {own_id}

For a client's configuration file:

[client]
ssh = 2222:127.0.0.1:22:{own_id}
"""
    if access.rules.permit != DEFAULT_PERMIT:
        text += f"""\
[socks]
browser = 1080:{own_id}
"""
    if access.permit is None:
        text += """
Clients reach 127.0.0.1:22 here and nothing else. To let them reach everything that this machine
reaches, start it with --permit '*:*', or name what they may reach: --permit 'HOST:PORT, HOST:PORT'
(in a configuration file: [access] permit).
"""
    if not (access.anyone or access.secret or server.access.admitted()):
        state = option(args.state, "server") if args.state else ""
        text += f"""
Nobody is allowed in yet. `toxproxy invite{state}` lets a client in by six words. Or start the client,
then run this here. It shows who waits, in words, and asks:

  toxproxy allow{state}
"""
    return text


def client_command(args: argparse.Namespace, console: Console) -> int:
    """Run the near end."""
    settings = client_settings(args.config)
    _warn(settings, "client")

    async def serve() -> None:
        with Progress(console, lambda: report.statuses(client.status()), lambda: _hint(client)) as progress:
            client = Client(settings, _state(args, "client"), changed=progress.changed)
            client.reloader.source = lambda: client_settings(args.config)
            await runner.run(
                client, beside=web.beside(client), started=progress.changed, ready_file=args.ready_file
            )

    runner.run_loop(serve())
    return 0


def _hint(client: Client) -> str:
    """A hint for somebody who has been waiting for a server."""
    if client.node.connection is ConnectionStatus.NONE:
        return "no node of the Tox network has answered yet: is this machine online?"
    key = client.node.public_key.hex().upper()
    return f"if the server has not let this client in yet, run this on the server: toxproxy allow {key}"


def _warn(settings: Config, role: Role) -> None:
    for warning in advice.warnings(settings, role):
        log.warning("%s", warning)


def id_command(args: argparse.Namespace, console: Console) -> int:
    """Print this machine's Tox ID."""
    print(tox_id(_state(args, args.role)))
    return 0


def demo_command(args: argparse.Namespace, console: Console) -> int:
    """Check that it works here."""

    async def show() -> bool:
        with Interrupts() as interrupts:
            async with interrupts.ending():
                return await demo.run(console)
        return False

    return 0 if runner.run_loop(show(), children=True) else 1
