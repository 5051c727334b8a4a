"""`toxproxy connect`: standard input and output become a connection through the client that runs here.

ssh starts this for each of its connections, so it imports little until something goes wrong.
"""

from __future__ import annotations

import argparse
import os
import socket
import stat
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toxproxy.control.client import Handover, NotRunning
from toxproxy.control.messages import ControlError, ErrorCode
from toxproxy.errors import Refusal, ToxproxyError
from toxproxy.system.files import as_bytes
from toxproxy.system.state import default_path

USAGE = "%(prog)s [EXIT] (HOST PORT | unix:/PATH)"
_PIECE = 1 << 17  # bytes

# The exit status for each refusal. 0: both directions ended in order. 1: any other failure. 2: usage.
STATUS = {
    Refusal.OFFLINE: 3,
    Refusal.NOT_PERMITTED: 4,
    Refusal.QUOTA_USED: 4,
    Refusal.NAME_NOT_FOUND: 5,
    Refusal.CONNECTION_REFUSED: 6,
    Refusal.NETWORK_UNREACHABLE: 7,
    Refusal.HOST_UNREACHABLE: 7,
    Refusal.TIMED_OUT: 7,
}
RESET = 8  # it was open, and data may be missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `toxproxy connect`."""
    parser.usage = USAGE
    parser.add_argument(
        "where", metavar="[EXIT] HOST PORT", nargs="+", help="through which server, and where to from there"
    )
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help="the client's configuration, where no client runs"
    )


def quick(arguments: Sequence[str]) -> int | None:
    """Run the command through the client that runs here. None: there is none, or something else is asked."""
    parser = argparse.ArgumentParser(prog="toxproxy connect", add_help=False, exit_on_error=False)
    add_arguments(parser)
    parser.add_argument("--state", type=Path)
    try:
        args, rest = parser.parse_known_args(arguments)
        if rest:
            return None
        exit, host, port = parse_where(args.where)
        return carried(args.state or default_path("client"), exit, host, port)
    except (NotRunning, ValueError, argparse.ArgumentError):
        return None  # what is wrong is said by the way that takes longer
    except ToxproxyError as error:
        return complain(str(error))
    except KeyboardInterrupt:
        return 1


def parse_where(where: Sequence[str]) -> tuple[str | None, str, int | None]:
    """The exit, the host and the port; None as the port of a Unix socket. Raises `ValueError`."""
    if len(where) in (1, 2) and where[-1].startswith("unix:/"):
        return where[0] if where[1:] else None, where[-1], None
    if len(where) not in (2, 3):
        raise ValueError(f"expected [EXIT] HOST PORT, found {len(where)} words")
    *exit, host, port = where
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:9]) <= 65535):
        raise ValueError("expected a port from 1 to 65535 as the last word, found something else")
    return exit[0] if exit else None, host, int(port)


def complain(text: str, status: int = 1) -> int:
    """Say on stderr why it failed. Returns the exit status."""
    from toxproxy.program.logs import escaped

    print(f"toxproxy: {escaped(text)}", file=sys.stderr)
    return status


def carried(folder: Path, exit: str | None, host: str, port: int | None) -> int:
    """Connect standard input and output, until both directions have ended. Returns the exit status.

    Raises `NotRunning` where no client runs with the state `folder`, and `ToxproxyError`.
    """
    params = {"exit": exit, "host": host, "port": port}
    given = {name: value for name, value in params.items() if value is not None}
    where = host if port is None else f"{host} port {port}"
    with Handover(folder, "connect", **given) as handover:
        threading.Thread(target=_send, args=(handover.stream, handover), daemon=True).start()
        receiving = threading.Thread(target=_receive, args=(handover.stream,), daemon=True)
        receiving.start()
        answer = handover.answer()
        receiving.join()  # what came before the end is still to be written
    match answer:
        case {"ending": "finished"}:
            return 0
        case {"ending": "refused", "refusal": str(name), "text": str(text)} if name in Refusal.__members__:
            return complain(f"{where}: {text}", STATUS.get(Refusal[name], 1))
        case {"ending": "reset", "text": str(text)}:
            return complain(f"{where}: the connection was reset{text and ': '}{text}", RESET)
    raise ControlError(ErrorCode.MALFORMED, "the running toxproxy is another version than this command")


def _send(near: socket.socket, handover: Handover) -> None:
    with suppress(OSError):  # the connection is over, as `_receive` finds out
        as_bytes(sys.stdin.fileno())
        while data := os.read(sys.stdin.fileno(), _PIECE):
            near.sendall(data)
        handover.written()
        near.shutdown(socket.SHUT_WR)


def _receive(near: socket.socket) -> None:
    try:
        out = sys.stdout.fileno()
        as_bytes(out)
        while data := memoryview(near.recv(_PIECE)):
            while data:
                data = data[os.write(out, data) :]
        _end(out)
    except OSError:
        near.close()  # nobody reads any more: the connection is of no use


def _end(out: int) -> None:
    """Whoever reads from `out` gets its end."""
    if stat.S_ISSOCK(os.fstat(out).st_mode):  # it may be standard input, too
        with socket.socket(fileno=os.dup(out)) as sock:
            sock.shutdown(socket.SHUT_WR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, out)
    os.close(nowhere)
