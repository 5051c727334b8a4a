"""The command line.

Exit status: 0 for success, also after a signal to stop; 1 for a failure; 2 for a command line or a
configuration that cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Literal

from toxproxy import __version__, config, demo
from toxproxy.address import parse_key
from toxproxy.app.allowing import allow
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.config.settings import DEFAULT_PERMIT, Config
from toxproxy.errors import ConfigError, ToxproxyError
from toxproxy.program import runner
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.logs import Console, escaped, logging_to
from toxproxy.program.progress import Progress
from toxproxy.rules import parse_rules
from toxproxy.system.state import StateFolder, default_path
from toxproxy.tox import library
from toxproxy.tox.identity import tox_id
from toxproxy.tox.node import ConnectionStatus

log = logging.getLogger(__name__)

_DESCRIPTION = """\
Reach a machine behind any NAT. The server runs on that machine, the client runs
here. The two find each other on the Tox network and carry TCP connections.
"""

_EPILOG = """\
first steps:
  there:  toxproxy invite                  prints six words
  here:   toxproxy join WORDS              writes cfg.ini
  there:  toxproxy server --permit '*:*'   if it does not run yet
  here:   toxproxy client cfg.ini
  here:   set the browser's SOCKS proxy to 127.0.0.1:1080

to see that it works, on this machine alone:
  toxproxy demo
"""

_SERVER_EPILOG = """\
Who may connect: the clients that you let in with `toxproxy allow`.
Where to: 127.0.0.1:22, unless you permit something else:

  toxproxy server --permit '127.0.0.1:22, *.lan:80-89'
  toxproxy server --permit '*:*'            everything that this machine reaches

A configuration file can set both, and more:

  [access]
  allow = KEY, KEY                          who may connect, besides those of `toxproxy allow`
  permit = *:*                              where to
  deny = private:*, self:*                  where not to: with this, only the internet is left
"""

_CLIENT_EPILOG = """\
A configuration file, with the server's Tox ID in place of TOXID:

  [socks]
  browser = 1080:TOXID               a SOCKS and HTTP proxy on port 1080 here
  [client]
  ssh = 2222:127.0.0.1:22:TOXID      port 2222 here leads to port 22 there
"""

_INVITE_EPILOG = """\
Run it where the server runs, as the same user and with the same --state; the server may be
running or not. The words are good for ten minutes and for one machine. Two check words at the
end tell whether both ends were joined to each other.
"""

_JOIN_EPILOG = """\
The words may also be typed when asked for: then they are not in the shell's history.
"""

_ALLOW_EPILOG = """\
Run it where the server runs, as the same user and with the same --state. The server's log
shows the key of each client that waits.
"""

_ROLES: tuple[Role, ...] = ("server", "client")
# The roles whose state a command may use; without an entry: either.
_STATES: dict[str, tuple[Role, ...]] = {
    "server": ("server",),
    "client": ("client",),
    "invite": ("server",),
    "join": ("client",),
    "allow": ("server",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. argparse exits itself: with 2, or with 0 after --help."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help(sys.stderr)
        return 2
    with logging_to(sys.stderr, debug=args.verbose > 0, as_json=args.log_format == "json") as console:
        try:
            run: Callable[[argparse.Namespace, Console], int] = args.run
            return run(args, console)
        except KeyboardInterrupt:  # before the event loop handles signals
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
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the versions and exit")
    _add_common(parser, *_ROLES)
    # Defaults are set here: a default of a command's option would overwrite a value given before the
    # command.
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
        _add_common(command, *_STATES.get(name, _ROLES))
        return command

    server = add(
        "server", _server, "run the far end, which makes the connections that clients ask for", _SERVER_EPILOG
    )
    _add_files(server, nargs="?")
    server.add_argument(
        "--permit",
        metavar="RULES",
        help="where clients may connect to: HOST:PORT, HOST:PORT, ...; '*:*' is everything "
        "(default: 127.0.0.1:22). Not together with permit in [access] of the file",
    )
    client = add(
        "client", _client, "run the near end, which listens on ports of this machine", _CLIENT_EPILOG
    )
    _add_files(client)
    invite = add("invite", _invite, "let another machine in by six words, and print them", _INVITE_EPILOG)
    invite.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="the server's configuration")
    _add_join(add("join", _join, "be let in by the words of `toxproxy invite`", _JOIN_EPILOG))
    allow = add("allow", _allow, "let a client in; the server may be running or not", _ALLOW_EPILOG)
    allow.add_argument("key", metavar="KEY", help="the client's public key or Tox ID")
    identity = add("id", _id, "print this machine's Tox ID, and make one if there is none")
    identity.add_argument(
        "role", choices=_ROLES, nargs="?", default="server", help="whose ID (default: server)"
    )
    add("demo", _demo, "check that it works here: a server, a client and a web site on this machine alone")
    return parser


class _ShowVersion(argparse.Action):
    """`--version`: the versions of toxproxy and of libtoxcore, which is loaded only for this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            tox = f"libtoxcore {library.version()}"
        except library.LibraryMissing as error:
            tox = escaped(str(error))
        print(f"toxproxy {__version__} ({tox})")
        parser.exit()


def _add_common(parser: argparse.ArgumentParser, *roles: Role) -> None:
    states = " or ".join(str(default_path(role)).replace("%", "%%") for role in roles)
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


def _add_files(parser: argparse.ArgumentParser, nargs: Literal["?"] | None = None) -> None:
    parser.add_argument("config", metavar="CONFIG", type=Path, nargs=nargs, help="a configuration file")
    parser.add_argument(
        "--ready-file",
        metavar="FILE",
        type=Path,
        help="write Tox ID, keys, ports, process id and listeners to FILE, as JSON, once all ports are bound",
    )


def _add_join(join: argparse.ArgumentParser) -> None:
    join.add_argument(
        "words", metavar="WORD", nargs="*", help="the six words or the link; without: asked for"
    )
    join.add_argument(
        "--output",
        "-o",
        metavar="FILE",
        type=Path,
        default=Path("cfg.ini"),
        help="the configuration file to write (default: cfg.ini)",
    )
    join.add_argument(
        "--port",
        metavar="N",
        default="1080",
        help="the proxy port of that file (default: 1080)",
    )
    join.add_argument(
        "--tox", metavar="FILE", type=Path, help="a configuration file whose [tox] holds here and is copied"
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
        state = f" --state {quote(str(args.state))}" if args.state else ""
        text += f"""
Nobody is allowed in yet. `toxproxy invite{state}` lets a client in by six words. Or start the client:
its key then appears here, for this command:

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
    """A hint for somebody who has been waiting for a server."""
    if client.node.connection is ConnectionStatus.NONE:
        return "no node of the Tox network has answered yet: is this machine online?"
    key = client.node.public_key.hex().upper()
    return f"if the server has not let this client in yet, run this on the server: toxproxy allow {key}"


def _warn(settings: Config, role: Role) -> None:
    for warning in advice.warnings(settings, role):
        log.warning("%s", warning)


def _invite(args: argparse.Namespace, console: Console) -> int:
    from toxproxy.program import pairing  # what it needs is loaded for these two commands only

    folder = args.state or default_path("server")
    return 0 if pairing.invite(folder, args.config, console) else 1


def _join(args: argparse.Namespace, console: Console) -> int:
    from toxproxy.program import pairing

    folder, words = args.state or default_path("client"), " ".join(args.words)
    joined = pairing.join(folder, words, console, output=args.output, port=args.port, tox=args.tox)
    return 0 if joined else 1


def _allow(args: argparse.Namespace, console: Console) -> int:
    try:
        key = parse_key(args.key)
    except ValueError as error:
        raise ConfigError(f"allow: {error}") from None
    state = _state(args, "server")
    said = runner.run_loop(allow(state, key))
    print(said or f"no server runs with {state.path}: the client is allowed from the server's next start on")
    return 0


def _id(args: argparse.Namespace, console: Console) -> int:
    print(tox_id(_state(args, args.role)))
    return 0


def _demo(args: argparse.Namespace, console: Console) -> int:
    async def show() -> bool:
        with Interrupts() as interrupts:
            async with interrupts.ending():
                return await demo.run(console)
        return False

    return 0 if runner.run_loop(show()) else 1
