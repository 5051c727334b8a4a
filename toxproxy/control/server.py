"""The control socket of a running end: `control` in its state folder, for this user only.

See `messages` for what is said on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path

from toxproxy import __version__
from toxproxy.control.messages import (
    REQUEST_BYTES,
    Answer,
    ControlError,
    ErrorCode,
    Request,
    encode_answer,
    encode_error,
    parse_request,
)
from toxproxy.errors import StateError, ToxproxyError
from toxproxy.pace import Notice
from toxproxy.system import local

log = logging.getLogger(__name__)

NAME = "control"

_CONNECTIONS = 16
_SECONDS = 5.0  # for a request to come, and for an answer to be taken
_SHORTAGE = 1.0  # seconds until the next attempt, if the system has no descriptor left

Params = Mapping[str, object]
Method = Callable[[Params], Awaitable[object] | AsyncGenerator[object, None]]


class ControlServer:
    """Answers on the control socket in `folder`, whose lock the caller holds.

    A method gets the request's params, and returns a result or yields several. What it raises as
    `ValueError` becomes the error `bad_params`, `ToxproxyError` `failed`, `ControlError` itself.

    A request is at most 4096 bytes and takes at most 5 s to come; so does each line of the answer to be
    taken. At most 16 connections are open at a time: more are told so.
    """

    def __init__(self, folder: Path, methods: Mapping[str, Method]) -> None:
        self._path = folder / NAME
        self._methods = methods
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self._strange = Notice(log, logging.WARNING)
        self._failed = Notice(log, logging.ERROR)

    async def start(self) -> None:
        """Listen; the socket of a program that was killed is replaced. Raises `StateError`."""
        try:
            self._socket = local.listen(self._path)
        except OSError as error:
            raise StateError(f"{self._path}: cannot listen there: {error.strerror}") from error
        self._accepting = asyncio.create_task(self._accept(self._socket), name="control socket")

    async def close(self) -> None:
        """Stop listening, hang up on whoever is connected, remove the socket."""
        if self._socket is None or self._accepting is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        tasks = [self._accepting, *self._exchanges]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()
        self._socket = None

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(sock)
            except OSError:  # no descriptor is left
                await asyncio.sleep(_SHORTAGE)
                continue
            task = loop.create_task(self._exchange(accepted, busy=len(self._exchanges) >= _CONNECTIONS))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanges.discard)

    async def _exchange(self, accepted: socket.socket, *, busy: bool) -> None:
        if not local.may_ask(accepted):
            accepted.close()
            self._strange("%s: a process of another user was turned away", self._path)
            return
        if busy:
            with accepted, contextlib.suppress(OSError):
                accepted.setblocking(False)
                accepted.send(
                    encode_error(ControlError(ErrorCode.BUSY, "too many requests at once: try later"))
                )
            return
        reader, writer = await asyncio.open_unix_connection(sock=accepted, limit=REQUEST_BYTES)
        writer.transport.set_write_buffer_limits(0)  # `drain` waits until everything is written
        try:
            with contextlib.suppress(OSError):  # a timeout is one, as is a client that hung up
                await self._answer(reader, writer)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                request = await _received(reader)
            if (method := self._methods.get(request.method)) is None:
                known = ", ".join(sorted(self._methods))
                raise ControlError(ErrorCode.UNKNOWN_METHOD, f"unknown method; expected one of {known}")
            outcome = method(request.params)
            if isinstance(outcome, AsyncGenerator):
                async with contextlib.aclosing(outcome):
                    async for result in outcome:
                        await _say(writer, encode_answer(Answer(result, more=True)))
                await _say(writer, encode_answer(Answer(None)))
            else:
                await _say(writer, encode_answer(Answer(await outcome)))
        except ControlError as error:
            await _say(writer, encode_error(error))
        except ToxproxyError as error:
            await _say(writer, encode_error(ControlError(ErrorCode.FAILED, str(error))))
        except ValueError as error:
            await _say(writer, encode_error(ControlError(ErrorCode.BAD_PARAMS, str(error))))
        except OSError:
            raise
        except Exception:
            self._failed("a request on the control socket failed", exc_info=True)
            text = "internal error; the log of the running program says more"
            await _say(writer, encode_error(ControlError(ErrorCode.FAILED, text)))


async def _received(reader: asyncio.StreamReader) -> Request:
    try:
        line = await reader.readline()
    except ValueError:  # longer than the reader's limit
        line = b""
    return parse_request(line, __version__)


async def _say(writer: asyncio.StreamWriter, line: bytes) -> None:
    """Write a line and wait until it is taken. Raises `OSError`, also after `_SECONDS`."""
    writer.write(line)
    async with asyncio.timeout(_SECONDS):
        await writer.drain()
