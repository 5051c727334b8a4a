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

_EARLY = 16  # datagrams that wait until the target's address is known; the oldest give way
_REFUSALS = {
    errno.EACCES: Refusal.NOT_PERMITTED,  # a broadcast address
    errno.ENETUNREACH: Refusal.NETWORK_UNREACHABLE,
    errno.EHOSTUNREACH: Refusal.HOST_UNREACHABLE,
}

_failed = Notice(logging.getLogger(__name__), logging.ERROR, most=5)


class UdpFlow:
    """A `Flow` from this machine. `connect` gives its socket, or raises `StreamRefused`.

    The socket is connected: the system drops what comes from another address or port than the target's.
    """

    def __init__(self, owner: FlowOwner, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        self._owner = owner
        self._early: deque[bytes] = deque(maxlen=_EARLY)
        self._socket: DatagramSocket | None = None
        self._task = asyncio.get_running_loop().create_task(self._run(connect))

    def send(self, data: bytes) -> None:
        if self._socket is not None:
            self._socket.send(data)
        else:
            self._early.append(data)

    def close(self, error: StreamError | None = None) -> None:
        self._task.cancel()
        if self._socket is not None:
            self._socket.close()

    async def _run(self, connect: Callable[[], Awaitable[socket.socket]]) -> None:
        try:
            sock = await connect()
        except StreamRefused as refused:
            self._owner.flow_ended(refused)
            return
        except Exception:
            _failed("opening a flow of datagrams failed", exc_info=True)
            self._owner.flow_ended(
                StreamRefused(Refusal.FAILED, "internal error; the server's log says more")
            )
            return
        self._socket = DatagramSocket(sock, lambda data, _: self._owner.datagram_received(data))
        self._owner.flow_opened()
        while self._early:
            self._socket.send(self._early.popleft())


def connected(target: UdpTarget, addresses: list[Address]) -> socket.socket:
    """A socket that is connected to the first address that this machine has a way to.

    Nothing is sent for that. Raises `StreamRefused`.
    """
    failure = OSError(errno.ENETUNREACH, "")
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as error:
            failure = error
            continue
        try:
            sock.connect((str(address), target.port))
        except OSError as error:
            sock.close()
            failure = error
        else:
            return sock
    code = _REFUSALS.get(failure.errno or 0, Refusal.FAILED)
    raise StreamRefused(code, code.words)
