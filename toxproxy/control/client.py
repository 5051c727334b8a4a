"""Asks a running end on its control socket. Blocking, since a command has nothing else to do."""

from __future__ import annotations

import errno
import socket
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self

from toxproxy.control.messages import (
    ANSWER_BYTES,
    NAME,
    ControlError,
    ErrorCode,
    Request,
    encode_request,
    parse_answer,
)
from toxproxy.errors import StateError
from toxproxy.system import gate

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


class Handover:
    """A request with which this end of `stream` is connected. Close it, or use it as a context manager.

    Raises as `asked`. The answer comes when the other end is done with the stream, however long that takes.
    """

    def __init__(self, folder: Path, method: str, **params: object) -> None:
        line = encode_request(Request(method, params))
        with _reaching(folder):
            self._socket, self.stream = gate.hand_over(folder / NAME, _SECONDS, line)
        self._socket.settimeout(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stream.close()
        self._socket.close()

    def written(self) -> None:
        """Say that all was written to the stream, before that direction of it is closed.

        Without this its end means that this process was ended, and what came is not complete.
        """
        with suppress(OSError):  # the other end is gone
            gate.say_written(self._socket)

    def answer(self) -> object:
        """Wait for the answer."""
        try:
            with self._socket.makefile("rb") as lines:
                return parse_answer(_next(lines.readline(ANSWER_BYTES))).result
        except OSError as error:
            raise _hung_up(str(error.strerror)) from error


def _next(line: bytes) -> bytes:
    if not line.endswith(b"\n"):
        raise _hung_up("the answer ended too early")
    return line


def _hung_up(why: str) -> ControlError:
    return ControlError(ErrorCode.FAILED, f"the running toxproxy hung up: it stops, or is too busy ({why})")


def _connect(folder: Path) -> socket.socket:
    with _reaching(folder):
        return gate.connect(folder / NAME, _SECONDS)


@contextmanager
def _reaching(folder: Path) -> Iterator[None]:
    """A block that connects; its errors as `asked` raises them."""
    path = folder / NAME
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):  # the last: it was killed
        raise NotRunning(folder) from None
    except (BrokenPipeError, ConnectionResetError) as error:
        raise _hung_up(f"{path}: {error.strerror}") from error
    except PermissionError as error:
        if error.errno == errno.EPERM:
            raise StateError(f"{path} belongs to another user: it is not asked") from None
        raise StateError(f"{path} cannot be asked: {error.strerror}") from error
    except OSError as error:
        raise StateError(f"{path} cannot be asked: {error.strerror or error}") from error
