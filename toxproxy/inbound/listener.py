"""A listening port of the near end, for any protocol.

A `Listener` binds, accepts, and runs one task per connection. The task lives exactly as long as the
connection. Subclasses speak their protocol in `serve`.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from toxproxy.address import MAX_WORDS, UNIX, Bind, Target, UnixBind, join_host_port, shown
from toxproxy.config.settings import LimitSettings
from toxproxy.dialer import Dialer
from toxproxy.errors import Refusal, StreamRefused, ToxproxyError
from toxproxy.pace import Notice
from toxproxy.relay.stream import ByteStream, cancelled_when
from toxproxy.system.descriptors import scarce
from toxproxy.system.local import SocketFile, is_local
from toxproxy.system.sockets import bound_datagrams, keep_lively, os_errors

log = logging.getLogger(__name__)

DEFAULTS = LimitSettings()
_BACKLOG = 1024
_REFUSED_LINES = 10  # a minute, of each listener
# Characters of the text that says why there is no server. It comes from this side, and ends with the
# command that lets this client in.
_MAX_OFFLINE_WORDS = 240
_SHORTAGE = 1.0  # seconds until the next attempt, if the system has no descriptor left
_PORT_ATTEMPTS = 16  # at a free port that all addresses have in common
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class Leading(Protocol):
    """What a listener that leads to one target needs to know. A `Forward` is that."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    @property
    def bind(self) -> Bind | UnixBind:
        """Where it listens."""
        ...

    @property
    def target(self) -> Target:
        """Where its connections go."""
        ...


class Listener(ABC):
    """A port of this machine, or a Unix socket, whose connections go through the tunnel.

    `name` is its name in the configuration. At most `limits.connections` are open at once, fewer if the
    process runs out of descriptors. At the limit, the oldest connection that has not asked for anything
    is reset, so a flood of silent clients shuts nobody out. If all have asked, new ones wait in the
    system's backlog until one ends.
    """

    def __init__(
        self,
        name: str,
        bind: Bind | UnixBind,
        dialer: Dialer,
        limits: LimitSettings = DEFAULTS,
        *,
        compress: bool = True,
    ) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = ()
        self.accepted = self.refused = 0  # connections; those of them that the far end did not open
        self._bind = bind
        self._dialer = dialer
        self._limits = limits
        self._compress = compress
        self._sockets: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: dict[asyncio.Task[None], None] = {}  # those that have not asked yet, the oldest first
        self._room = asyncio.Event()  # a connection has ended, or one that may be reset has begun
        self._full = Notice(log, logging.WARNING)
        self._slow = Notice(log)
        self._refused = Notice(log, most=_REFUSED_LINES)
        self._too_many = Notice(log)
        self._reset = Notice(log)  # connections that were silent for too long

    @abstractmethod
    async def serve(self, client: ByteStream) -> None:
        """Serve one client until its connection is over. If it is still open then, it is reset."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._tasks)

    async def start(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; `addresses` are known then. Without `sockets`, that listen, it binds its own.

        Raises `ToxproxyError` if that is not possible.
        """
        loop = asyncio.get_running_loop()
        self._sockets = await listening(self.name, self._bind) if sockets is None else sockets
        self.addresses = tuple(map(_address, self._sockets))
        self._accepting = [loop.create_task(self._accept(sock)) for sock in self._sockets]

    def begin(self, connect: Callable[[ByteStream], Awaitable[object]]) -> None:
        """Serve a connection: `connect` gives it its transport, which may be another than a socket's."""
        self.accepted += 1
        task = asyncio.get_running_loop().create_task(self._run(connect))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def change(self, limits: LimitSettings, *, compress: bool) -> None:
        """Use other settings for new connections."""
        self._limits, self._compress = limits, compress
        self._room.set()  # for one that waits: there may be room now

    async def release(self) -> list[socket.socket]:
        """Accept no more, and give the sockets away, which go on listening. Open connections go on."""
        for task in self._accepting:
            task.cancel()
        if self._accepting:
            await asyncio.wait(self._accepting)
        self._accepting = []
        sockets, self._sockets = self._sockets, []
        return sockets

    async def close(self) -> None:
        """Stop listening. Open connections go on; see `drain`."""
        for sock in await self.release():
            sock.close()

    async def drain(self, grace: float | None = 0.0) -> None:
        """Wait `grace` seconds for the connections to end, then reset the others. None: wait for all."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self.reset()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def reset(self) -> None:
        """Reset the connections that are left."""
        for task in self._tasks:
            task.cancel()

    async def open(
        self, client: ByteStream, target: Target, *, early: bool = False, dialer: Dialer | None = None
    ) -> ByteStream:
        """Open a connection to `target` for `client`, in its task. `early`: see `Dialer.dial`.

        `dialer` takes the place of the usual one.

        If the client is reset meanwhile, its task is cancelled. A half-close does not cancel it: such a
        client waits for its answer. Raises `StreamRefused`, after logging it.
        """
        self.has_asked()
        try:
            with cancelled_when(client.lost):
                dialer = dialer or self._dialer
                _, far = await dialer.dial(ByteStream, target, early=early, compress=self._compress)
        except StreamRefused as refused:
            self.log_refused(target, refused)
            raise
        return far

    def has_asked(self) -> None:
        """The client of this task has made its request: it is not reset to make room for others."""
        self._silent.pop(_current_task(), None)

    def log_refused(self, target: Target, refused: StreamRefused) -> None:
        """Log why the far end opened no connection. Its text is quoted and cut, and the lines are bounded."""
        self.refused += 1
        tell = self._too_many if refused.code is Refusal.TOO_MANY_STREAMS else self._refused
        most = _MAX_OFFLINE_WORDS if refused.code is Refusal.OFFLINE else MAX_WORDS
        tell("%s: %s refused: %s", self.name, target, shown(refused.text or refused.code.words, most))

    def log_slow(self, what: str) -> None:
        """Log that a client took longer than `limits.handshake` for its request."""
        seconds = self._limits.handshake
        self._slow("%s: %s within %g s ([limits] handshake)", self.name, what, seconds)

    async def _accept(self, sock: socket.socket) -> None:
        while True:
            try:
                with os_errors():
                    accepted = await _accepted(sock)
            except OSError as error:
                await self._make_room(f"no connection can be accepted ({why(error)})", _SHORTAGE)
                continue
            most, limit = math.inf, "[limits] connections"
            if scarce(accepted):
                most, limit = max(1, len(self._tasks)), "ulimit -n"
            try:
                while (count := len(self._tasks)) >= min(most, self._limits.connections):
                    await self._make_room(f"{count} connections are open ({limit})")
            except asyncio.CancelledError:
                accepted.close()
                raise
            self.begin(partial(_joined, accepted))

    async def _make_room(self, reason: str, seconds: float | None = None) -> None:
        """Reset the oldest connection that has not asked yet, and wait until any ends, at most `seconds`."""
        self._full(
            "%s: %s: the oldest one without a request is reset; if there is none, new ones wait",
            self.name,
            reason,
        )
        self._room.clear()
        if self._silent:
            oldest = next(iter(self._silent))
            del self._silent[oldest]
            oldest.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._room.wait()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._silent.pop(task, None)
        self._room.set()

    async def _run(self, connect: Callable[[ByteStream], Awaitable[object]]) -> None:
        client = ByteStream(self._limits.patience, self._reset)
        try:
            await connect(client)
            if not self._silent:
                self._room.set()
            self._silent[_current_task()] = None
            await self.serve(client)
        except ConnectionError as error:
            log.debug("%s: a connection ended early: %s", self.name, error)
        except Exception:
            log.exception("%s: a connection was given up", self.name)
        finally:
            client.reset()


async def _joined(accepted: socket.socket, client: ByteStream) -> None:
    """Give the client the transport of a socket that was accepted."""
    with suppress(OSError):  # the client is gone already; the next line fails too
        keep_lively(accepted)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: client, accepted)


async def _accepted(sock: socket.socket) -> socket.socket:
    """The next connection. A cancellation leaves it in the backlog; the loops' `sock_accept` may lose it."""
    loop = asyncio.get_running_loop()
    while True:
        with suppress(BlockingIOError, InterruptedError):
            accepted, _ = sock.accept()
            accepted.setblocking(False)
            return accepted
        readable = loop.create_future()
        loop.add_reader(sock, _done, readable)
        try:
            await readable
        finally:
            loop.remove_reader(sock)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _current_task() -> asyncio.Task[None]:
    task: asyncio.Task[None] | None = asyncio.current_task()
    assert task is not None
    return task


def _address(sock: socket.socket) -> str:
    if is_local(sock):
        return f"{UNIX}{sock.getsockname()}"
    return join_host_port(*sock.getsockname()[:2])


async def bound(bind: Bind | UnixBind, kind: socket.SocketKind = socket.SOCK_STREAM) -> list[socket.socket]:
    """Sockets that listen at `bind`. Raises `OSError`."""
    if isinstance(bind, UnixBind):
        sockets: list[socket.socket] = [SocketFile(bind.path, bind.mode, _BACKLOG)]
    else:
        sockets = bind_sockets(await _resolve(bind), bind.port, kind)
    for sock in sockets:
        sock.setblocking(False)
    return sockets


async def listening(
    name: str, bind: Bind | UnixBind, kind: socket.SocketKind = socket.SOCK_STREAM
) -> list[socket.socket]:
    """`bound`, for the listener `name`. Raises `ToxproxyError` if it cannot listen there."""
    try:
        return await bound(bind, kind)
    except OSError as error:
        raise ToxproxyError(f"{name}: cannot listen on {bind}: {why(error)}") from error


async def _resolve(bind: Bind) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of this machine that `bind` means, each once."""
    if not bind.host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    infos = await asyncio.get_running_loop().getaddrinfo(
        bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in infos))


def bind_sockets(
    addresses: list[tuple[socket.AddressFamily, str]],
    port: int,
    kind: socket.SocketKind = socket.SOCK_STREAM,
) -> list[socket.socket]:
    """Listening sockets on one port of all addresses. Port 0 is a port that is free on all of them.

    An address of a family that this machine does not have is left out. Raises `OSError`, also if no
    address is left.
    """
    for _ in range(_PORT_ATTEMPTS):
        try:
            return _bind_all(addresses, port, kind)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
            failure = error
    raise failure


def _bind_all(
    addresses: list[tuple[socket.AddressFamily, str]], port: int, kind: socket.SocketKind
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, host in addresses:
            try:
                if kind is socket.SOCK_STREAM:
                    sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
                else:
                    sock = bound_datagrams(family, host, port)
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                missing = error
                continue
            sockets.append(sock)
            port = sock.getsockname()[1]
    except OSError:
        for sock in sockets:
            sock.close()
        raise
    if not sockets and missing is not None:
        raise missing
    return sockets


def why(error: OSError) -> str:
    """Why an address cannot be bound, or a connection not be accepted, for people."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        return "the name has no address here" if isinstance(error, socket.gaierror) else str(error)
    if error.errno == errno.EEXIST:
        return "there is a file that is no socket of this user"
    # socket.create_server adds where it was to listen. Windows' own errors have no words in os.strerror.
    return (error.strerror or os.strerror(error.errno)).partition(" (while ")[0].lower()
