"""What a server listens on for one client."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from toxproxy.address import Bind, Target, UnixBind
from toxproxy.config.listen import permitted
from toxproxy.config.settings import LimitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.forward import ForwardListener
from toxproxy.inbound.listener import bound, why
from toxproxy.inbound.udp import UdpForwardListener
from toxproxy.mux import frames
from toxproxy.pace import Notice, Pace
from toxproxy.reverse.request import Request, listener, parse_request, told
from toxproxy.rules import Rule
from toxproxy.system.descriptors import scarce
from toxproxy.tunnel.session import Session
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

MOST = 64  # listeners of one client
_A_MINUTE = 600  # times that one may ask; a client whose lines are all refused asks less often
_LINES = 10  # a minute, about the listeners of one client
_NOT_PERMITTED = "not permitted (on the server: [client NAME] listen)"
_REFUSALS = {errno.EADDRINUSE: Refusal.ADDRESS_IN_USE, errno.EACCES: Refusal.NOT_PERMITTED}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a listener listens, and what leads there, in the form of a `Forward`."""

    name: str
    bind: Bind | UnixBind
    target: Target


@dataclass(frozen=True, slots=True)
class Open:
    """A listener, the request for it, and the stream that it lasts as long as."""

    request: Request
    listener: ForwardListener | UdpForwardListener
    transport: StreamTransport


class Listening:
    """Listens as a client asks, where `permits` says that it may.

    A listener ends with the stream that asked for it, so with the session at the latest; an interrupted
    session keeps it, and what connects meanwhile waits. `session` is the present one with the client,
    `name` what the log calls the client.
    """

    def __init__(
        self,
        *,
        permits: Callable[[], tuple[Rule, ...]],
        session: Callable[[], Session | None],
        limits: Callable[[], LimitSettings],
        name: Callable[[], str],
    ) -> None:
        self._permits = permits
        self._session = session
        self._limits = limits
        self._name = name
        self._open: list[Open] = []
        self._left: set[ForwardListener | UdpForwardListener] = set()  # closed; they may have connections
        self._told: set[Request] = set()  # what the log said is refused
        self._asked = Pace(_A_MINUTE)
        self._turn = asyncio.Lock()  # a listener that ends frees its address before the next one takes it
        self._closed = False
        self._notice = Notice(log, most=_LINES)

    @property
    def open(self) -> tuple[Open, ...]:
        """What is listened on."""
        return tuple(self._open)

    async def serve(self, transport: StreamTransport, target: Target) -> None:
        """Answer a request. Cancelled when its stream has ended."""
        try:
            request = parse_request(target.host)
            await self._listen(transport, request)
        except ValueError as error:
            transport.refuse(Refusal.UNSUPPORTED, str(error))
        except StreamRefused as refused:
            if request not in self._told and len(self._told) < MOST:  # a client asks again and again
                self._told.add(request)
                self._notice("%s asks to listen on %s: %s", self._name(), request, refused.text)
            transport.refuse(refused.code, refused.text)

    async def _listen(self, transport: StreamTransport, request: Request) -> None:
        """Listen until the stream ends, which cancels this. Raises `StreamRefused`."""
        session = self._session()
        if session is None:  # the stream is of one that has ended
            return
        async with self._turn:
            self._judge(request)
            sockets = await self._bound(request)
            place = Place(self._name(), request.bind, listener(transport.stream.id, request))
            limits = self._limits()
            if request.udp:
                new: ForwardListener | UdpForwardListener = UdpForwardListener(place, session, limits)
            else:
                new = ForwardListener(place, session, limits, compress=_compresses(transport))
            await new.start(sockets)
        here = Open(request, new, transport)
        self._open.append(here)
        try:
            if self._closed or self._permission(request) is None:  # since a reload meanwhile
                raise StreamRefused(Refusal.NOT_PERMITTED, _NOT_PERMITTED)
            self._told.discard(request)
            ended = _Ended()
            if transport.accept(ended):
                transport.write(told(new.addresses))
                self._notice("%s: %s is listened on", self._name(), ", ".join(new.addresses))
                await ended.over.wait()
        finally:
            self._open.remove(here)
            self._left = {each for each in self._left if each.connections} | {new}
            async with self._turn:
                await new.close()

    def _judge(self, request: Request) -> None:
        if self._closed:
            raise StreamRefused(Refusal.FAILED, "the server is stopping")
        if not self._asked.take():
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, "asked too often: try again in a minute")
        if self._permission(request) is None:
            raise StreamRefused(Refusal.NOT_PERMITTED, _NOT_PERMITTED)
        if len(self._open) >= MOST:
            raise StreamRefused(Refusal.TOO_MANY_STREAMS, f"the server listens on {MOST} addresses already")

    def _permission(self, request: Request) -> Rule | None:
        return permitted(self._permits(), request.bind, udp=request.udp)

    async def _bound(self, request: Request) -> list[socket.socket]:
        try:
            sockets = await bound(request.bind, socket.SOCK_DGRAM if request.udp else socket.SOCK_STREAM)
        except OSError as error:
            code = _REFUSALS.get(error.errno or 0, Refusal.FAILED)
            raise StreamRefused(code, f"cannot listen there: {why(error)}") from error
        if scarce(sockets[-1]):
            for sock in sockets:
                sock.close()
            raise StreamRefused(Refusal.FAILED, "the server has nearly no file descriptors left")
        return sockets

    def change(self, limits: LimitSettings) -> None:
        """Other rules and limits hold: end the listeners that are not permitted any more."""
        self._told.clear()
        for each in self.open:
            if self._permission(each.request) is None:
                self._notice("%s may not listen on %s any more", self._name(), each.request)
                each.transport.abort()
            else:
                each.listener.change(limits, compress=_compresses(each.transport))

    def close(self) -> None:
        """Listen no more. What came in goes on."""
        self._closed = True
        for each in self.open:
            each.transport.abort()

    async def drain(self, grace: float = 0.0) -> None:
        """After `close`: wait `grace` seconds for the connections to end, then reset the others."""
        everyone = {*self._left, *(each.listener for each in self._open)}
        await asyncio.gather(*(each.drain(grace) for each in everyone))


def _compresses(transport: StreamTransport) -> bool:
    """Whether the client wants its connections compressed: it says so of the stream that asks."""
    said = transport.stream.said
    return isinstance(said, frames.Open) and not said.kind & frames.PLAIN


class _Ended(asyncio.Protocol):
    """The stream of a listener: what the client sends there means nothing."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    def eof_received(self) -> bool:
        self.over.set()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()
