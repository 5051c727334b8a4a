"""A running server's control socket: one question, one answer, from this user only.

The socket is `control` in the state folder. A connection carries one JSON object on one line
there, `{"command": "allow", "key": "…"}`, and one back, `{"ok": true, …}` or
`{"ok": false, "error": "…"}`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from toxproxy.errors import StateError, ToxproxyError
from toxproxy.system.state import StateFolder

Handler = Callable[[dict[str, object]], dict[str, object]]

_NAME = "control"
_QUESTION_BYTES = 4096
_ANSWER_BYTES = 1 << 20
_CONNECTIONS = 16
_SECONDS = 5.0
_SUN_PATH_BYTES = 104  # struct sockaddr_un: 108 on Linux, 104 elsewhere, with the final NUL


class ControlServer:
    """Answers on the control socket of `state`, whose lock the caller holds.

    A handler gets the question's fields without `command` and returns the answer's without
    `ok`. What it raises as `ToxproxyError` or `ValueError` becomes the answer's `error`.
    A question is at most 4096 bytes and takes at most 5 s; at most 16 are open at a time, more
    are hung up on.
    """

    def __init__(self, state: StateFolder, handlers: Mapping[str, Handler]) -> None:
        self._folder = state.path
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._exchanges: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen; a socket left behind by a server that died is replaced. Raises `StateError`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            (self._folder / _NAME).unlink(missing_ok=True)
            with _short_path(self._folder) as path:
                sock.bind(path)
                os.chmod(path, 0o600)  # before it listens: nobody can have connected yet
            self._server = await asyncio.start_unix_server(self._accept, sock=sock, limit=_QUESTION_BYTES)
        except OSError as error:
            sock.close()
            raise StateError(f"{self._folder / _NAME}: cannot listen there: {error.strerror}") from error

    async def close(self) -> None:
        """Stop listening, hang up on whoever is connected, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        (self._folder / _NAME).unlink(missing_ok=True)
        for task in self._exchanges:
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._exchanges) >= _CONNECTIONS:
            writer.close()
            return
        task = asyncio.create_task(self._exchange(reader, writer))
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError):  # a timeout is one, as is a peer that hung up
                async with asyncio.timeout(_SECONDS):
                    writer.write(_encode(await self._answer(reader)))
                    await writer.drain()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader) -> dict[str, object]:
        try:
            question = await _receive(reader)
            command = question.pop("command", None)
            handler = self._handlers.get(command) if isinstance(command, str) else None
            if handler is None:
                raise ValueError(f"unknown command; expected {', '.join(sorted(self._handlers))}")
            return {"ok": True, **handler(question)}
        except (ToxproxyError, ValueError) as error:
            return {"ok": False, "error": str(error)}


async def request(state: StateFolder, command: str, **fields: object) -> dict[str, object] | None:
    """Ask the server that runs on `state`; its answer, or None where none is running.

    Raises `StateError` for a server that does not answer within 5 s, or answers nonsense.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            with _short_path(state.path) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=_ANSWER_BYTES)
            try:
                writer.write(_encode({"command": command, **fields}))
                return await _receive(reader)
            finally:
                writer.close()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except (OSError, ValueError) as error:
        reason = str(error) or f"no answer within {_SECONDS:g} seconds"
        raise StateError(
            f"{state.path / _NAME}: the server does not answer as it should: {reason}"
        ) from error


async def _receive(reader: asyncio.StreamReader) -> dict[str, object]:
    """Raises `ValueError` for what is not a JSON object on one line, or longer than the reader's limit."""
    try:
        message = json.loads(await reader.readline())
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise ValueError("expected a JSON object on one line")
    return message


def _encode(message: Mapping[str, object]) -> bytes:
    return json.dumps(message).encode() + b"\n"


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """The socket's path in a form that fits a socket address, however deep the folder is.

    A path that is too long is reached through the folder's descriptor (Linux's /proc).
    """
    path = str(folder / _NAME)
    if len(os.fsencode(path)) < _SUN_PATH_BYTES:
        yield path
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
