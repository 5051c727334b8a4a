"""What a server answers itself, without a target behind it: for `toxproxy speedtest` and `doctor`.

The host is `HOST`, a name that cannot exist (RFC 6761), so a server that does not know it refuses. The
ports are those of small services that did the like, and browsers connect to none of them:

- `DISCARD` takes bytes, and says ten times a second how many it has taken: u64 each.
- `GENERATE` sends bytes that do not shrink.
- `TIME` sends the server's clock in milliseconds since 1970 (UTC), u64, and ends.
- `NAMES` is opened if the server's name resolver answers. Nothing comes.

Every connection ends after `SECONDS`. A client has `AT_ONCE` at a time and begins `A_MINUTE`; all clients
together have `IN_ALL`. Each is one end of a socket pair, so it is relayed as a connection to a target is.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import struct
from collections.abc import Callable
from enum import IntEnum
from time import time as now
from typing import cast

from toxproxy.dialer import P
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.pace import Pace
from toxproxy.system import local
from toxproxy.system.resolver import NO_SUCH_NAME, Resolver

HOST = "service.toxproxy.invalid"
COUNT = struct.Struct("!Q")

SECONDS = 15.0
AT_ONCE, IN_ALL, A_MINUTE = 4, 16, 60
_EVERY = 0.1  # seconds between two counts
_PIECE = 1 << 18  # bytes
_NO_NAME = "names.toxproxy.invalid"


class Port(IntEnum):
    """The services, by their ports."""

    DISCARD = 9
    GENERATE = 19
    TIME = 37
    NAMES = 53


class Service:
    """The services for one client. `everyone` counts the open connections of all clients.

    `resolver` is None where names are not looked up on this machine.
    """

    def __init__(self, resolver: Resolver | None, everyone: set[object]) -> None:
        self.resolver = resolver
        self._everyone = everyone
        self._own: set[object] = set()
        self._pace = Pace(A_MINUTE)

    async def dial(self, protocol_factory: Callable[[], P], port: int) -> tuple[asyncio.Transport, P]:
        """Connect to a service; see `Dialer.dial`. Raises `StreamRefused`."""
        if port not in list(Port):
            raise StreamRefused(Refusal.CONNECTION_REFUSED, "the server has no such service of its own")
        if len(self._own) >= AT_ONCE or len(self._everyone) >= IN_ALL or not self._pace.take():
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, "too many tests at once: try again in a minute")
        answer = _ANSWERS[Port(port)](self._ended)
        for each in (self._own, self._everyone):
            each.add(answer)
        try:
            if port == Port.NAMES:
                await self._look_up()
            return await _joined(answer, protocol_factory)
        except BaseException:
            self._ended(answer)
            raise

    async def _look_up(self) -> None:
        """Raise `StreamRefused` if the resolver does not answer."""
        if self.resolver is None:
            raise StreamRefused(Refusal.UNSUPPORTED, "the server leaves names to its upstream proxy")
        if not await answers(self.resolver):
            raise StreamRefused(Refusal.FAILED, "the server's name resolver does not answer")

    def _ended(self, answer: object) -> None:
        self._own.discard(answer)
        self._everyone.discard(answer)


class _Answer(asyncio.Protocol):
    """One connection; on its own it only lasts."""

    def __init__(self, ended: Callable[[object], None]) -> None:
        self._tell = ended
        self._timers: list[asyncio.TimerHandle] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._timers.append(asyncio.get_running_loop().call_later(SECONDS, self.transport.abort))
        self.begin()

    def begin(self) -> None:
        """The connection is open."""

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._tell(self)


class _Discard(_Answer):
    def begin(self) -> None:
        self._taken = 0
        self._say()

    def data_received(self, data: bytes) -> None:
        self._taken += len(data)

    def eof_received(self) -> bool:
        self.transport.write(COUNT.pack(self._taken))
        return False

    def _say(self) -> None:
        self.transport.write(COUNT.pack(self._taken))
        self._timers[1:] = [asyncio.get_running_loop().call_later(_EVERY, self._say)]


class _Generate(_Answer):
    def begin(self) -> None:
        self._full = False
        self._timers.append(asyncio.get_running_loop().call_later(0, self.resume_writing))

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        while not (self._full or self.transport.is_closing()):
            self.transport.write(noise())


class _Time(_Answer):
    def begin(self) -> None:
        self.transport.write(COUNT.pack(int(now() * 1000)))
        self.transport.close()


_ANSWERS: dict[Port, Callable[[Callable[[object], None]], _Answer]] = {
    Port.DISCARD: _Discard,
    Port.GENERATE: _Generate,
    Port.TIME: _Time,
    Port.NAMES: _Answer,
}


async def answers(resolver: Resolver) -> bool:
    """Whether this machine's name service answers: it is asked for a name that cannot exist."""
    try:
        await resolver.look_up(_NO_NAME)
    except socket.gaierror as error:
        return error.errno in NO_SUCH_NAME
    return True


@functools.cache
def noise() -> bytes:
    """256 KiB that do not shrink, the same each time."""
    return os.urandom(_PIECE)


async def _joined(answer: _Answer, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """The near end of a new socket pair, with `answer` at the far one."""
    near, far = socket.socketpair()
    try:
        far_transport, _ = await local.join(far, lambda: answer)
    except BaseException:
        near.close()
        far.close()
        raise
    try:
        return await local.join(near, protocol_factory)
    except BaseException:
        far_transport.abort()
        near.close()
        raise
