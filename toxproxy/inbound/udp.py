"""A UDP port of the near end whose datagrams go to one target: a forward with `/udp`."""

from __future__ import annotations

import logging
import socket
from typing import Any

from toxproxy.address import MAX_WORDS, UdpTarget, join_host_port, shown
from toxproxy.config.settings import LimitSettings
from toxproxy.dialer import FlowDialer
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.inbound.flows import FlowTable, Openings
from toxproxy.inbound.listener import DEFAULTS, Leading, listening
from toxproxy.pace import Notice
from toxproxy.system.datagrams import DatagramSocket, answering
from toxproxy.system.sockets import enlarge

log = logging.getLogger(__name__)

_BUFFER = 1 << 20  # bytes
_LINES = 10  # a minute, about flows that are refused

Key = tuple[DatagramSocket, Any]  # which socket a client sends to, and its address


class UdpForwardListener:
    """Opens a flow to the target for each address that sends something, and sends it what comes back.

    It has the interface of a `Listener`; its connections are flows, `limits.flows` at most.
    """

    def __init__(self, forward: Leading, dialer: FlowDialer, limits: LimitSettings = DEFAULTS) -> None:
        assert isinstance(forward.target, UdpTarget)
        self.name = forward.name
        self.addresses: tuple[str, ...] = ()
        self.refused = 0  # flows
        self._target = forward.target
        self._bind = forward.bind
        self._openings = Openings(limits.flows)
        self._flows = FlowTable[Key](dialer, self._openings, self._answer, self._log_refused)
        self._sockets: list[DatagramSocket] = []
        self._notice = Notice(log, most=_LINES)

    @property
    def connections(self) -> int:
        """How many flows there are."""
        return len(self._flows)

    @property
    def accepted(self) -> int:
        """How many there were since the start."""
        return self._openings.opened

    async def start(self, sockets: list[socket.socket] | None = None) -> None:
        """See `Listener.start`."""
        if sockets is None:
            sockets = await listening(self.name, self._bind, socket.SOCK_DGRAM)
        self.addresses = tuple(join_host_port(*sock.getsockname()[:2]) for sock in sockets)
        for sock in sockets:
            enlarge(sock, _BUFFER)
            self._serve(sock)

    def change(self, limits: LimitSettings, *, compress: bool) -> None:
        """Use other settings from now on. Datagrams are not compressed."""
        self._openings.most = limits.flows

    async def release(self) -> list[socket.socket]:
        """End all flows, and give the sockets away."""
        self._flows.close()
        sockets = [each.release() for each in self._sockets]
        self._sockets = []
        return sockets

    async def close(self) -> None:
        """End all flows: without the socket nothing can come back."""
        for sock in await self.release():
            sock.close()

    async def drain(self, grace: float | None = 0.0) -> None:
        """Nothing is left to wait for after `close`."""

    def _serve(self, sock: socket.socket) -> None:
        def received(data: bytes, address: Any) -> None:
            self._flows.send((here, address), self._target, data)

        here = answering(sock, received)
        self._sockets.append(here)

    def _answer(self, key: Key, target: UdpTarget, data: bytes) -> None:
        sock, address = key
        sock.send(data, address)

    def _log_refused(self, target: UdpTarget, refused: StreamRefused) -> None:
        self.refused += refused.code is not Refusal.OFFLINE
        words = shown(refused.text or refused.code.words, MAX_WORDS)
        self._notice("%s: %s refused: %s", self.name, target, words)
