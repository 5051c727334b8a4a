"""Asks a running end on its control socket. Blocking, since a command has nothing else to do."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from toxproxy.control.messages import (
    ANSWER_BYTES,
    ControlError,
    ErrorCode,
    Request,
    encode_request,
    parse_answer,
)
from toxproxy.control.server import NAME
from toxproxy.errors import StateError
from toxproxy.system import local

_SECONDS = 15.0  # for each line of an answer


class NotRunning(StateError):
    """Nothing runs with this state folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"no toxproxy runs with state {folder}")
        self.folder = folder


def runs(folder: Path) -> bool:
    """Whether something listens on the control socket in `folder`. Raises `StateError`."""
    try:
        _connect(folder).close()
    except NotRunning:
        return False
    return True


def ask(folder: Path, method: str, **params: object) -> object:
    """The only answer to a request; see `asked`."""
    with closing(asked(folder, method, **params)) as results:
        return next(results, None)


def asked(folder: Path, method: str, **params: object) -> Generator[object, None, None]:
    """The results of a request, one after another.

    Raises `NotRunning`; `ControlError` as the running end says, and where it does not answer within 15 s;
    `StateError` where the socket cannot be used.
    """
    line = encode_request(Request(method, params))
    with _connect(folder) as sock:
        try:
            sock.sendall(line)
            with sock.makefile("rb") as lines:
                while True:
                    answer = parse_answer(_next(lines.readline(ANSWER_BYTES)))
                    if answer.result is not None:
                        yield answer.result
                    if not answer.more:
                        return
        except TimeoutError:
            text = f"{folder / NAME}: no answer within {_SECONDS:g} seconds"
            raise ControlError(ErrorCode.TIMED_OUT, text) from None
        except OSError as error:
            raise _hung_up(f"{folder / NAME}: {error.strerror}") from error


def _next(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise _hung_up("the answer ended too early")
    return line


def _hung_up(why: str) -> ControlError:
    return ControlError(ErrorCode.FAILED, f"the running toxproxy hung up: it stops, or is too busy ({why})")


def _connect(folder: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(_SECONDS)
    try:
        with local.reached(folder / NAME) as name:
            sock.connect(name)
        if not local.may_answer(sock):
            raise StateError(f"{folder / NAME} belongs to another user: it is not asked")
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):  # the last: it was killed
        sock.close()
        raise NotRunning(folder) from None
    except OSError as error:
        sock.close()
        raise StateError(f"{folder / NAME} cannot be asked: {error.strerror}") from error
    except BaseException:
        sock.close()
        raise
    return sock
