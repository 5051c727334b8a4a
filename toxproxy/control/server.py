"""The control socket of a running end: `control` in its state folder, for this user only.

See `messages` for what is said on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from toxproxy import __version__
from toxproxy.control.messages import (
    NAME,
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
from toxproxy.system import gate as gates
from toxproxy.system.gate import Gate

log = logging.getLogger(__name__)

_CONNECTIONS = 16
_SECONDS = 5.0  # for a request to come, and for an answer to be taken
_SHORTAGE = 1.0  # seconds until the next attempt, if the system has no descriptor left

Params = Mapping[str, object]
Method = Callable[[Params], Awaitable[object] | AsyncGenerator[object, None]]


@dataclass(frozen=True, slots=True)
class Handed:
    """A stream socket that a command handed over, and whether it has said that it wrote everything."""

    sock: socket.socket
    written: Callable[[], bool]


Taker = Callable[[Params, Handed], Awaitable[object]]


class ControlServer:
    """Answers on the control socket in `folder`, whose lock the caller holds.

    A method gets the request's params, and returns a result or yields several. What it raises as
    `ValueError` becomes the error `bad_params`, `ToxproxyError` `failed`, `ControlError` itself.

    A request is at most 4096 bytes and takes at most 5 s to come; so does each line of the answer to be
    taken. At most 16 connections are open at a time: more are told so.

    `takers` are the methods that take a socket, which comes with the request (unix(7), SCM_RIGHTS). They
    bound themselves, and do not count among the 16. The socket is closed when they are done.
    """

    def __init__(
        self, folder: Path, methods: Mapping[str, Method], takers: Mapping[str, Taker] | None = None
    ) -> None:
        self._path = folder / NAME
        self._methods = methods
        self._takers = takers or {}
        self._long = 0  # exchanges that a taker has
        self._gate: Gate | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self._strange = Notice(log, logging.WARNING)
        self._failed = Notice(log, logging.ERROR)

    async def start(self) -> None:
        """Listen; the socket of a program that was killed is replaced. Raises `StateError`."""
        try:
            self._gate = gates.gate(self._path)
        except OSError as error:
            raise StateError(f"{self._path}: cannot listen there: {error.strerror}") from error
        self._accepting = asyncio.create_task(self._accept(self._gate), name="control socket")

    async def close(self) -> None:
        """Stop listening, hang up on whoever is connected, remove the socket."""
        if self._gate is None or self._accepting is None:
            return
        with contextlib.suppress(OSError):
            self._path.unlink()
        tasks = [self._accepting, *self._exchanges]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._gate.listener.close()
        self._gate = None

    async def _accept(self, gate: Gate) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(gate.listener)
            except OSError:  # no descriptor is left
                await asyncio.sleep(_SHORTAGE)
                continue
            busy = len(self._exchanges) - self._long >= _CONNECTIONS
            task = loop.create_task(self._exchange(gate, accepted, busy=busy))
            self._exchanges.add(task)
            task.add_done_callback(self._exchanges.discard)

    async def _exchange(self, gate: Gate, accepted: socket.socket, *, busy: bool) -> None:
        if not await gate.admits(accepted):
            accepted.close()
            self._strange("%s: a process of another user was turned away", self._path)
            return
        given = gate.given(accepted)
        try:
            await self._admitted(gate, accepted, given, busy=busy)
        finally:
            for each in given:
                each.close()

    async def _admitted(
        self, gate: Gate, accepted: socket.socket, given: list[socket.socket], *, busy: bool
    ) -> None:
        if busy:
            with accepted, contextlib.suppress(OSError):
                accepted.setblocking(False)
                accepted.send(
                    encode_error(ControlError(ErrorCode.BUSY, "too many requests at once: try later"))
                )
            return
        with accepted, contextlib.suppress(OSError):  # a timeout is one, as is a client that hung up
            accepted.setblocking(False)
            await self._answer(gate, accepted, given)

    async def _answer(self, gate: Gate, sock: socket.socket, given: list[socket.socket]) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                request = parse_request(await _received(sock, given), __version__)
            if (taker := self._takers.get(request.method)) is not None:
                outcome = await self._taken(taker, request, given, lambda: gate.written(sock))
                await _say(sock, encode_answer(Answer(outcome)))
                return
            if (method := self._methods.get(request.method)) is None:
                known = ", ".join(sorted([*self._methods, *self._takers]))
                raise ControlError(ErrorCode.UNKNOWN_METHOD, f"unknown method; expected one of {known}")
            outcome = method(request.params)
            if isinstance(outcome, AsyncGenerator):
                async with contextlib.aclosing(outcome):
                    async for result in outcome:
                        await _say(sock, encode_answer(Answer(result, more=True)))
                await _say(sock, encode_answer(Answer(None)))
            else:
                await _say(sock, encode_answer(Answer(await outcome)))
        except ControlError as error:
            await _say(sock, encode_error(error))
        except ToxproxyError as error:
            await _say(sock, encode_error(ControlError(ErrorCode.FAILED, str(error))))
        except ValueError as error:
            await _say(sock, encode_error(ControlError(ErrorCode.BAD_PARAMS, str(error))))
        except OSError:
            raise
        except Exception:
            self._failed("a request on the control socket failed", exc_info=True)
            text = "internal error; the log of the running program says more"
            await _say(sock, encode_error(ControlError(ErrorCode.FAILED, text)))

    async def _taken(
        self,
        taker: Taker,
        request: Request,
        given: list[socket.socket],
        written: Callable[[], bool],
    ) -> object:
        if not given:
            raise ControlError(ErrorCode.BAD_PARAMS, "expected a socket with the request")
        self._long += 1
        try:
            return await taker(request.params, Handed(given[0], written))
        finally:
            self._long -= 1


async def _received(sock: socket.socket, given: list[socket.socket]) -> bytes:
    """The line of a request. The socket that comes with it is added to `given`."""
    line = b""
    while not line.endswith(b"\n") and len(line) < REQUEST_BYTES:
        try:
            data, sockets = gates.received(sock, REQUEST_BYTES - len(line))
        except BlockingIOError:
            await _readable(sock)
            continue
        given += sockets
        if not data:
            break
        line += data
    return line


async def _readable(sock: socket.socket) -> None:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sock)


async def _say(sock: socket.socket, line: bytes) -> None:
    """Write a line and wait until it is taken. Raises `OSError`, also after `_SECONDS`."""
    async with asyncio.timeout(_SECONDS):
        await asyncio.get_running_loop().sock_sendall(sock, line)
