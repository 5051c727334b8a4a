"""Datagrams to a target: a socket for each flow."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable

from toxproxy.address import Address, UdpTarget
from toxproxy.dialer import FlowOwner
from toxproxy.errors import Refusal, StreamError, StreamRefused
from toxproxy.pace import Notice
from toxproxy.system.datagrams import DatagramSocket
from toxproxy.system.sockets import enlarge

_BUFFER = 1 << 20  # bytes: what comes while the event loop is busy; the system may give less
_EARLY = 16  # datagrams that wait until the target's address is known; the oldest give way
_REFUSALS = {
    errno.EACCES: Refusal.NOT_PERMITTED,  # a broadcast address
    errno.ENETUNREACH: Refusal.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
}

Found = tuple[socket.socket, tuple[str, int]]

_failed = Notice(logging.getLogger(__name__), logging.ERROR, most=5)


class UdpFlow:
    """A `Flow` from this machine. `find` gives its socket and its target, or raises `StreamRefused`.

    What comes from another address or port than the target's is dropped, unless answers may come from
    `anywhere`.
    """

    def __init__(
        self, owner: FlowOwner, find: Callable[[], Awaitable[Found]], *, anywhere: bool = False
    ) -> None:
        self._owner = owner
        self._anywhere = anywhere
        self._early: deque[bytes] = deque(maxlen=_EARLY)
        self._socket: DatagramSocket | None = None
        self._target = "", 0
        self._task = asyncio.get_running_loop().create_task(self._run(find))

    def send(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.send(data, self._target)
        else:
            self._early.append(data)

    def close(self, error: StreamError | None = None) -> None:
        self._task.cancel()
        if self._socket is not None:
            self._socket.close()

    async def _run(self, find: Callable[[], Awaitable[Found]]) -> None:
        try:
            sock, self._target = await find()
        except StreamRefused as refused:
            self._owner.flow_ended(refused)
            return
        except Exception:
            _failed("opening a flow of datagrams failed", exc_info=True)
            self._owner.flow_ended(StreamRefused(Refusal.FAILED, "internal error; the log there says more"))
            return
        self._socket = DatagramSocket(sock, self._received)
        self._owner.flow_opened()
        while self._early:
            self._socket.send(self._early.popleft(), self._target)

    def _received(self, data: bytes, source: tuple[str, int]) -> None:
        if self._anywhere or source[:2] == self._target:
            self._owner.datagram_received(data)


def reached(target: UdpTarget, addresses: list[Address]) -> Found:
    """A socket for the first address that this machine has a way to, and that address.

    Nothing is sent to find out. The socket is not connected: see `DatagramSocket`. Raises `StreamRefused`.
    """
    failure = OSError(errno.ENETUNREACH, "")
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((str(address), target.port))
                where: tuple[str, int] = probe.getpeername()[:2]
            sock = socket.socket(family, socket.SOCK_DGRAM)
            enlarge(sock, _BUFFER)
            return sock, where
        except OSError as error:
            failure = error
    code = _REFUSALS.get(failure.errno or 0, Refusal.FAILED)
    raise StreamRefused(code, code.words)
