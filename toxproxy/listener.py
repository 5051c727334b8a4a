"""What every listening port of the near end does, whatever is spoken on it.

A `Listener` binds, accepts, and runs one task per connection; the task lives exactly as long
as the connection does. Subclasses say in `serve` what is spoken.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from abc import ABC, abstractmethod

from toxproxy.address import Bind, Target, join_host_port
from toxproxy.answers import reason
from toxproxy.connection import Connection, cancelled_when
from toxproxy.dialer import Dialer
from toxproxy.errors import StreamRefused, ToxproxyError

log = logging.getLogger(__name__)

MAX_PENDING = 4096  # connections of one listener that the far end has not answered for yet
_BACKLOG = 1024
_PORT_ATTEMPTS = 16
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


class Listener(ABC):
    """A port (on one or more addresses of this machine) whose connections go through the tunnel.

    `name` is what the configuration calls it. At most `max_pending` connections may be waiting
    for their handshake or for the far end; those beyond are reset.
    """

    def __init__(self, name: str, bind: Bind, dialer: Dialer, *, max_pending: int = MAX_PENDING) -> None:
        self.name = name
        self.addresses: tuple[str, ...] = ()
        self._bind = bind
        self._dialer = dialer
        self._max_pending = max_pending
        self._servers: list[asyncio.Server] = []
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def serve(self, client: Connection) -> None:
        """Speak with one client until its connection is over. What is open afterwards is reset."""

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._tasks)

    async def start(self) -> None:
        """Bind and listen; `addresses` then says where.

        Raises `ToxproxyError` where that is not possible.
        """
        loop = asyncio.get_running_loop()
        try:
            sockets = bind_sockets(await _resolve(self._bind), self._bind.port)
        except OSError as error:
            raise ToxproxyError(f"{self.name}: cannot listen on {self._bind}: {_why(error)}") from error
        self.addresses = tuple(join_host_port(*sock.getsockname()[:2]) for sock in sockets)
        for sock in sockets:
            self._servers.append(await loop.create_server(self._accept, sock=sock, backlog=_BACKLOG))

    async def close(self) -> None:
        """Stop listening. Connections go on, see `drain`."""
        self._closed = True
        for server in self._servers:
            server.close()

    async def drain(self, grace: float = 0.0) -> None:
        """Let connections end by themselves for `grace` seconds, then reset those that are left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def open(
        self, client: Connection, target: Target, *, early: bool = False, half_closed: bool = False
    ) -> Connection:
        """Have a connection to `target` opened for `client`; see `Dialer.dial` for `early`.

        A client that goes away meanwhile takes its task with it. One that only ended its own
        direction counts as gone too, unless `half_closed` says that it may. Raises `StreamRefused`.
        """
        try:
            with cancelled_when(client.lost if half_closed else client.hung_up):
                _, far = await self._dialer.dial(Connection, target, early=early)
        except StreamRefused as refused:
            self.log_refused(target, refused)
            raise
        self._pending.discard(_current_task())
        return far

    def log_refused(self, target: Target, refused: StreamRefused) -> None:
        """Tell the user what the far end said."""
        log.info("%s: %s refused: %s", self.name, target, reason(target, refused))

    def _accept(self) -> Connection:
        return _Accepted(self)

    def _begin(self, client: Connection) -> None:
        if self._closed:
            client.reset()
            return
        if len(self._pending) >= self._max_pending:
            log.warning("%s: a connection was reset: %d others are waiting", self.name, self._max_pending)
            client.reset()
            return
        task = asyncio.get_running_loop().create_task(self._run(client))
        for tasks in (self._tasks, self._pending):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    async def _run(self, client: Connection) -> None:
        try:
            await self.serve(client)
        except ConnectionError as error:
            log.debug("%s: a connection ended early: %s", self.name, error)
        except Exception:
            log.exception("%s: a connection was given up", self.name)
        finally:
            client.reset()


class _Accepted(Connection):
    """A connection that starts its task once it has its transport."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # asyncio does so only for sockets that were made with the protocol's number.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener._begin(self)


def _current_task() -> asyncio.Task[None]:
    task: asyncio.Task[None] | None = asyncio.current_task()
    assert task is not None
    return task


async def _resolve(bind: Bind) -> list[tuple[socket.AddressFamily, str]]:
    """The addresses of this machine that `bind` stands for, each once."""
    if not bind.host:
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    infos = await asyncio.get_running_loop().getaddrinfo(
        bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in infos))


def bind_sockets(addresses: list[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    """Listening sockets on one port of all addresses; port 0 takes one that is free on all of them.

    An address whose family this machine lacks is left out, unless nothing else is left. Raises `OSError`.
    """
    for _ in range(_PORT_ATTEMPTS):
        try:
            return _bind_all(addresses, port)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE:
                raise
            failure = error
    raise failure


def _bind_all(addresses: list[tuple[socket.AddressFamily, str]], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, host in addresses:
            try:
                sock = socket.create_server((host, port), family=family, backlog=_BACKLOG)
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


def _why(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return "the name has no address here" if isinstance(error, socket.gaierror) else str(error)
    return os.strerror(error.errno).lower()
