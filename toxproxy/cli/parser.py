"""The commands and their options."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Literal

from toxproxy import __version__
from toxproxy.cli import (
    admit,
    alone,
    configure,
    connect,
    doctor,
    installing,
    look,
    pair,
    route,
    run,
    speed,
    top,
)
from toxproxy.cli.adding import ROLES, Add, add_common, adder
from toxproxy.program.logs import escaped
from toxproxy.tox import library

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

when it does not work:
  toxproxy doctor [CONFIG]                 at either end: what is wrong, and what to do
  toxproxy status                          at either end: what is connected, how, or why not
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
Without KEY it shows who waits to be let in, each in six words, and asks. The client shows its own words
with `toxproxy status`: let it in only if they are the same. KEY may be those words, a public key, a Tox ID,
how a known client is called, or how its key begins.

Run it where the server runs, as the same user and with the same --state.
"""

_CLIENTS_EPILOG = """\
One line a client: its name or the beginning of its key, whether it is connected or when it last was, what
went through since the server's start, why it may connect and until when, and by its section [client NAME] at
which rate, and what is left of its quota. -v adds the whole keys and their words.
"""

_REVOKE_EPILOG = """\
The client is forgotten, and its connections are reset. It can ask to be let in again; with a secret that
the server still has, it comes back by itself. To keep it out: toxproxy block.
"""

_BLOCK_EPILOG = """\
The client is shut out whatever it sends, and whatever the configuration says; its connections are reset.
`toxproxy allow` lets it in again.
"""

_STATUS_EPILOG = """\
First the answer in a sentence. Then a line each for the other ends, the ports that are listened on, and
the Tox network. Then what explains it, or what to do. -v says more about each; --watch shows it again
every second; --json is for programs (docs/control.md).
"""

_PING_EPILOG = """\
PEER is a name, or how a key begins (4 digits or more). It can be left out where there is only one, or
only one is connected. A ping goes through the tunnel, as the connections do: it waits in the same queues
on the path, but passes what waits at this end.

Exit status: 0 if an answer came, with --until-direct: by a direct path; 1 otherwise.
"""

_DOCTOR_EPILOG = """\
First what has to be mended, and how. Then everything that was tried, a line each. It takes up to 20 s.

It asks the server or the client that runs here. At a client, the targets of its forwards are tried, each by
a connection that is closed at once. Where nothing runs, give it the configuration file: ports are tried, and
a throw-away node looks for the Tox network.

--bundle writes the result for a bug report, without keys, IDs, secrets, names, addresses and paths.

Exit status: 0 if nothing has to be mended, 1 otherwise.
"""

_SPEEDTEST_EPILOG = """\
Down, then up, a few seconds each, with data that does not shrink. The server answers it itself: no service
is needed behind it, and no permit. It takes the whole line meanwhile. Then come the rate, the share of
packets that were lost, and what the load adds to the round trip: that is the line's queue.
"""

_STREAMS_EPILOG = """\
One line a connection, the oldest first: its id, the other end, where it leads, its age, and its bytes.
"""

_CONNECT_EPILOG = """\
For ssh: ProxyCommand toxproxy connect home %h %p. It goes through the client that runs here; where none
does, a client is started for this one connection, with --config or with a Tox ID as EXIT.

EXIT is a name of [exits], a Tox ID, or how a key begins; without it: the only server. HOST is as the server
sees it. Nothing but the connection's bytes is printed. The end of the input ends one direction only.

Exit status: 0 if both directions ended in order; 2: the command line; 3: no server was found in time;
4: not permitted, or no quota left; 5: the name is not known there; 6: refused; 7: not reached; 8: cut;
1: anything else.
"""

_TOP_EPILOG = """\
The fastest first: what came and went, at which rates, since when, and where to; at an end with several
others also with whom. Arrow keys choose one, c closes it, q quits. --json prints a line each second instead.
"""

_CHECK_EPILOG = """\
Without --role it says what the file means to each role that it can be for. Nothing is started, asked or
looked up.

Exit status: 0 if the file can be used, 1 if not.
"""

_RELOAD_EPILOG = """\
As SIGHUP. Forwards, proxy ports, [compress], [limits], and a server's [access], [client NAME], [exit] and
[log] count at once; connections that are open go on. [tox] and [server] count from the next start on. A
file with a mistake, or with a port that cannot be listened on, changes nothing.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser. What it parses has the command's function in `run`, None where there is no command."""
    parser = argparse.ArgumentParser(
        prog="toxproxy",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the versions and exit")
    add_common(parser, *ROLES)
    # Defaults are set here: a default of a command's option would overwrite a value given before the
    # command.
    parser.set_defaults(run=None, state=None, verbose=0, log_format="text")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    add = adder(commands)
    _add_ends(add)
    _add_configuration(add)
    _add_routes(add)
    _add_questions(add)
    _add_admission(add)
    installing.add_to(add)
    identity = add("id", run.id_command, "print this machine's Tox ID, and make one if there is none")
    identity.add_argument(
        "role", choices=ROLES, nargs="?", default="server", help="whose ID (default: server)"
    )
    text = "check that it works here: a server, a client and a web site on this machine alone"
    add("demo", run.demo_command, text)
    return parser


def _add_ends(add: Add) -> None:
    text = "run the far end, which makes the connections that clients ask for"
    server = add("server", run.server_command, text, _SERVER_EPILOG)
    _add_files(server, nargs="?")
    server.add_argument(
        "--permit",
        metavar="RULES",
        help="where clients may connect to: HOST:PORT, HOST:PORT, ...; '*:*' is everything "
        "(default: 127.0.0.1:22). Not together with permit in [access] of the file",
    )
    text = "run the near end, which listens on ports of this machine"
    _add_files(add("client", run.client_command, text, _CLIENT_EPILOG))
    text = "connect standard input and output with a target, as for ssh's ProxyCommand"
    connect.add_arguments(add("connect", alone.connect_command, text, _CONNECT_EPILOG))


def _add_configuration(add: Add) -> None:
    text = "say what a configuration file means, or what is wrong with it"
    check = add("check", configure.check_command, text, _CHECK_EPILOG)
    check.add_argument("config", metavar="CONFIG", type=Path, help="a configuration file")
    check.add_argument("--role", choices=ROLES, help="only what it means to this role")
    text = "have the running end read its configuration file again"
    _add_asking(add("reload", configure.reload_command, text, _RELOAD_EPILOG), role=True)


def _add_routes(add: Add) -> None:
    text = "say which rule of [route] decides about a target, and which way it leaves"
    which = add("route", route.route_command, text)
    which.add_argument("host", metavar="HOST", help="a name or an address")
    which.set_defaults(role="client")
    which.add_argument("port", metavar="PORT", type=int, nargs="?", help="a port (default: 443)")
    _add_asking(which)
    text = "print the rules of [route] as a browser's automatic proxy configuration"
    add("pac", route.pac_command, text).add_argument(
        "config", metavar="CONFIG", type=Path, help="the client's configuration file"
    )


def _add_questions(add: Add) -> None:
    text = "say what is connected and how, or why it does not work"
    status = add("status", look.status_command, text, _STATUS_EPILOG)
    _add_asking(status, role=True)
    status.add_argument("--watch", action="store_true", help="show it again every second, until Ctrl-C")
    ping = add("ping", look.ping_command, "measure the round trip to the other end", _PING_EPILOG)
    _add_asking(ping, role=True)
    ping.add_argument("peer", metavar="PEER", nargs="?", help="which other end")
    ping.add_argument("--count", metavar="N", type=int, help="how often (default: 4, --until-direct: 60)")
    ping.add_argument(
        "--until-direct", action="store_true", help="stop once the path is direct, without a relay"
    )
    text = "find out what is wrong, and say what to do"
    examine = add("doctor", doctor.doctor_command, text, _DOCTOR_EPILOG)
    examine.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="a configuration file")
    _add_asking(examine, role=True)
    examine.add_argument("--bundle", metavar="FILE", type=Path, help="also write FILE, for a bug report")
    text = "measure how fast the path to the server is, both ways"
    speedtest = add("speedtest", speed.speedtest_command, text, _SPEEDTEST_EPILOG)
    _add_asking(speedtest, role=True)
    speedtest.add_argument("peer", metavar="PEER", nargs="?", help="which server, as with ping")
    speedtest.add_argument(
        "--seconds", metavar="N", type=float, help="of each direction, 2 to 10 (default: 5)"
    )
    streams = add("streams", look.streams_command, "list the connections through the tunnel", _STREAMS_EPILOG)
    _add_asking(streams, role=True)
    watched = add("top", top.top_command, "watch the connections through the tunnel", _TOP_EPILOG)
    _add_asking(watched, role=True)
    close = add("close", look.close_command, "reset a connection through the tunnel")
    _add_asking(close, role=True)
    close.add_argument("id", metavar="ID", help="its id, as `toxproxy streams` shows it")


def _add_admission(add: Add) -> None:
    text = "let another machine in by six words, and print them"
    invite = add("invite", pair.invite_command, text, _INVITE_EPILOG)
    invite.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="the server's configuration")
    _add_join(add("join", pair.join_command, "be let in by the words of `toxproxy invite`", _JOIN_EPILOG))
    text = "let a client in; the server may be running or not"
    allow = add("allow", admit.allow_command, text, _ALLOW_EPILOG)
    _add_asking(allow)
    allow.add_argument("key", metavar="KEY", nargs="*", help="which client; without it you are asked")
    allow.add_argument("--name", metavar="NAME", help="what to call it")
    allow.add_argument(
        "--expires",
        metavar="WHEN",
        help="until when: a date (2027-01-31, that day included) or a time from now (90min, 12h, 7d)",
    )
    clients = add("clients", admit.clients_command, "list the clients that may connect", _CLIENTS_EPILOG)
    _add_asking(clients)
    text = "forget a client that was let in, and end its connections"
    revoke = add("revoke", admit.revoke_command, text, _REVOKE_EPILOG)
    text = "shut a client out for good, and end its connections"
    block = add("block", admit.block_command, text, _BLOCK_EPILOG)
    for command in (revoke, block):
        _add_asking(command)
        command.add_argument("key", metavar="CLIENT", help="its name, its key, or how its key begins")


class _ShowVersion(argparse.Action):
    """`--version`: the versions of toxproxy and of libtoxcore, which is loaded only for this."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            tox = f"libtoxcore {library.version()}"
        except library.LibraryMissing as error:
            tox = escaped(str(error))
        print(f"toxproxy {__version__} ({tox})")
        parser.exit()


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


def _add_asking(parser: argparse.ArgumentParser, *, role: bool = False) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    if role:
        parser.add_argument("--role", choices=ROLES, help="which end to ask, where both run here")
