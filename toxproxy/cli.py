"""The commands.

Exit status: 0 for success, which includes being told to stop, 1 for failure, 2 for a command
line or a configuration that cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from toxproxy import __version__, config, demo
from toxproxy.address import ToxId, parse_key
from toxproxy.admission.access import Access
from toxproxy.app.client import Client
from toxproxy.app.control import request
from toxproxy.app.server import Server
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.config.settings import DEFAULT_PERMIT, AccessSettings, Config
from toxproxy.errors import ConfigError, ToxproxyError
from toxproxy.program import runner
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.logs import Console, escaped, logging_to
from toxproxy.program.progress import Progress
from toxproxy.rules import parse_rules
from toxproxy.system.state import StateFolder, default_path
from toxproxy.tox import library
from toxproxy.tox.identity import IDENTITY, open_identity
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tox.pytox import Tox, ToxOptions

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Reach a machine behind any NAT: TCP connections through the Tox network, from a
client that you run here to a server that you run there.
"""

_EPILOG = """\
to begin:
  there:  toxproxy server --permit '*:*'   prints the server's Tox ID
  here:   toxproxy client browser.ini      where browser.ini says
                                               [socks]
                                               browser = 1080:TOXID
  there:  toxproxy allow KEY               as the server's log tells, once
  here:   set the browser's SOCKS proxy to 127.0.0.1:1080

without a network, to see that it works:
  toxproxy demo
"""

_SERVER_EPILOG = """\
The clients that you let in with `toxproxy allow` reach 127.0.0.1:22, and what you permit:

  toxproxy server --permit '127.0.0.1:22, *.lan:80-89'
  toxproxy server --permit '*:*'            everything that this machine reaches

A configuration may say more:

  [access]
  allow = KEY, KEY                          who may connect
  permit = *:*                              where to
  deny = private:*, self:*                  and where not: here, the internet alone is left
"""

_CLIENT_EPILOG = """\
A configuration, with the server's Tox ID for TOXID:

  [socks]
  browser = 1080:TOXID               a SOCKS and HTTP proxy on port 1080
  [client]
  ssh = 2222:127.0.0.1:22:TOXID      port 2222 here is port 22 there
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status; argparse itself exits with 2, or 0 after help."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        return 2
    with logging_to(sys.stderr, debug=args.verbose > 0, as_json=args.log_format == "json") as console:
        try:
            run: Callable[[argparse.Namespace, Console], int] = args.run
            return run(args, console)
        except KeyboardInterrupt:  # before the loop took over
            return 1
        except (ToxproxyError, OSError) as error:
            if args.verbose > 1:
                traceback.print_exc()
            _complain(error, as_json=args.log_format == "json")
            return 2 if isinstance(error, ConfigError) else 1


def _complain(error: Exception, *, as_json: bool) -> None:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if as_json:
        log.error("%s", text)
    else:
        print(f"toxproxy: {escaped(text)}", file=sys.stderr)


# The command line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="toxproxy",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the versions and exit")
    _add_common(parser)
    # Not as the options' own defaults: a command's would overwrite what was said before it.
    parser.set_defaults(run=None, state=None, verbose=0, log_format="text")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace, Console], int], text: str, epilog: str | None = None
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=run)
        _add_common(command)
        return command

    server = add("server", _server, "run the far end, which connects for its clients", _SERVER_EPILOG)
    server.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="an ini file")
    server.add_argument(
        "--permit",
        metavar="RULES",
        help="where clients may connect, as [access] permit, which the file must not say then: "
        "host:port, host:port, ... (default: 127.0.0.1:22; everything: '*:*')",
    )
    client = add("client", _client, "run the near end, which listens", _CLIENT_EPILOG)
    client.add_argument("config", metavar="CONFIG", type=Path, help="an ini file")
    for command in (server, client):
        command.add_argument(
            "--ready-file",
            metavar="FILE",
            type=Path,
            help="write Tox ID, keys, ports, process id and listeners here (JSON) once everything is bound",
        )
    allow = add("allow", _allow, "let a client in, at the server, running or not")
    allow.add_argument("key", metavar="KEY", help="the client's public key or Tox ID")
    identity = add("id", _id, "print this machine's Tox ID, made if there is none yet")
    identity.add_argument(
        "role", choices=("server", "client"), nargs="?", default="server", help="whose (default: server)"
    )
    add("demo", _demo, "try it on a private network on this machine: a server, a client, a web site")
    return parser


class _ShowVersion(argparse.Action):
    """`--version`: toxproxy's and libtoxcore's, which is not opened before it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            tox = f"libtoxcore {library.version()}"
        except library.LibraryMissing as error:
            tox = escaped(str(error))
        print(f"toxproxy {__version__} ({tox})")
        parser.exit()


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=argparse.SUPPRESS,
        help=f"where the identity and the allowed clients are kept (default: {default_path('server')} "
        "for server, allow and id, the folder client beside it for client)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="tell more; twice: with tracebacks of failures",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default=argparse.SUPPRESS,
        help="how to write the log, which goes to stderr (default: text)",
    )


def _state(args: argparse.Namespace, role: Role) -> StateFolder:
    return StateFolder(args.state or default_path(role))


# The commands


def _server(args: argparse.Namespace, console: Console) -> int:
    settings = config.load(args.config) if args.config else config.DEFAULT
    if args.permit is not None:
        settings = _permitting(settings, args.permit)
    _warn(settings, "server")

    async def serve() -> None:
        server = Server(settings, _state(args, "server"))
        await runner.run(
            server, started=lambda: print(_invitation(server, args), flush=True), ready_file=args.ready_file
        )

    runner.run_loop(serve())
    return 0


def _permitting(settings: Config, text: str) -> Config:
    """The settings with what --permit says. Raises `ConfigError`."""
    if settings.access.permit is not None:
        raise ConfigError("--permit: expected no [access] permit in the configuration beside it, found one")
    try:
        return replace(settings, access=replace(settings.access, permit=parse_rules(text)))
    except ValueError as error:
        raise ConfigError(f"--permit: {error}") from None


def _invitation(server: Server, args: argparse.Namespace) -> str:
    """What a server's owner needs for the first client."""
    tox_id, access = server.node.tox_id, server.config.access
    text = f"""\
The Tox ID of this server:

  {tox_id}

For a client's configuration file:

[client]
ssh = 2222:127.0.0.1:22:{tox_id}
"""
    if access.rules.permit != DEFAULT_PERMIT:
        text += f"""\
[socks]
browser = 1080:{tox_id}
"""
    if access.permit is None:
        text += """
Clients reach 127.0.0.1:22 here and nothing else. To let them reach everything that this machine
reaches, start it with --permit '*:*', or name what they may reach: --permit 'HOST:PORT, HOST:PORT'
(in a configuration: [access] permit).
"""
    if not (access.anyone or access.secret or server.access.admitted()):
        state = f" --state {args.state}" if args.state else ""
        text += f"""
Nobody is allowed in yet. Start the client; its key then appears here, for:

  toxproxy allow{state} KEY
"""
    return text


def _client(args: argparse.Namespace, console: Console) -> int:
    settings = config.load(args.config)
    settings.require_client(str(args.config))
    _warn(settings, "client")

    async def serve() -> None:
        with Progress(console, lambda: client.statuses(), lambda: _hint(client)) as progress:
            client = Client(settings, _state(args, "client"), changed=progress.changed)
            await runner.run(client, started=progress.changed, ready_file=args.ready_file)

    runner.run_loop(serve())
    return 0


def _hint(client: Client) -> str:
    """What may help somebody who has been waiting for a server."""
    if client.node.connection is ConnectionStatus.NONE:
        return "no node of the Tox network has answered yet: is this machine online?"
    key = client.node.public_key.hex().upper()
    return f"a server that does not let this client in yet does so with: toxproxy allow {key}"


def _warn(settings: Config, role: Role) -> None:
    for warning in advice.warnings(settings, role):
        log.warning("%s", warning)


def _allow(args: argparse.Namespace, console: Console) -> int:
    try:
        key = parse_key(args.key)
    except ValueError as error:
        raise ConfigError(f"allow: {error}") from None
    state = _state(args, "server")
    answer = runner.run_loop(request(state, "allow", key=key.hex()))
    if answer is None:
        with state.lock():
            Access(AccessSettings(), state).allow(key)
        print(f"no server runs with {state.path}: the client is allowed from the server's next start on")
    elif answer.get("ok") is True:
        print(answer.get("text"))
    else:
        raise ToxproxyError(f"the server says: {answer.get('error')}")
    return 0


def _id(args: argparse.Namespace, console: Console) -> int:
    print(_tox_id(_state(args, args.role)))
    return 0


def _tox_id(state: StateFolder) -> ToxId:
    """The Tox ID of the identity in `state`, which a running node may be using.

    The identity is made if there is none. Raises `StateError` for a damaged one.
    """
    if (state.path / IDENTITY).exists():
        return _identity(state)
    with state.lock():
        return _identity(state)


def _identity(state: StateFolder) -> ToxId:
    # Without UDP, and never iterated: it takes no port and sends nothing.
    tox = open_identity(Tox, ToxOptions(udp_enabled=False, local_discovery_enabled=False), state)
    try:
        return ToxId(bytes.fromhex(tox.self_get_address()))
    finally:
        tox.kill()


def _demo(args: argparse.Namespace, console: Console) -> int:
    async def show() -> bool:
        with Interrupts() as interrupts:
            async with interrupts.ending():
                return await demo.run(console)
        return False

    return 0 if runner.run_loop(show()) else 1
