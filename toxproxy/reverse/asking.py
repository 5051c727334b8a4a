"""Has a server listen for this client, in one session after the other."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from time import monotonic
from typing import cast

from toxproxy.address import MAX_WORDS, shown
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.pace import Backoff, Notice
from toxproxy.reverse.doors import Door
from toxproxy.reverse.outlet import Outlet
from toxproxy.reverse.request import MOST_TOLD, Request, parse_told
from toxproxy.tunnel.friend import Friend
from toxproxy.tunnel.session import Session
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 15.0  # seconds until a server that refused is asked again
_STEADY = 30.0  # seconds of listening after which pauses start again from none
_LINES = 10  # a minute, of each request


class Phase(Enum):
    """How far a request is."""

    WAITING = "waiting"  # for the server
    ASKED = "asked"
    LISTENING = "listening"
    REFUSED = "refused"  # it is asked again


class Asking:
    """Asks `friend` to listen as `request` says, for `door`; and again in its next session.

    A server that refuses is asked again after a pause. `addresses` are where it listens, `refusal` is why
    it did not, the last time. `run` is to be a task of the owner; cancelled, it has the server listen no
    more, and `door` keeps the connections that there are.
    """

    def __init__(
        self,
        name: str,
        friend: Friend,
        outlet: Outlet,
        request: Request,
        door: Door,
        *,
        compress: bool = True,
    ) -> None:
        self.name = name
        self.friend = friend
        self.request = request
        self.door = door
        self.compress = compress
        self.phase = Phase.WAITING
        self.addresses: tuple[str, ...] = ()
        self.refusal: StreamRefused | None = None
        #: Done when the server has answered for the first time.
        self.answered = asyncio.Event()
        self._outlet = outlet
        self._backoff = Backoff(most=_LONGEST_PAUSE)
        self._since = 0.0  # when the server began to listen
        self._notice = Notice(log, most=_LINES)

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            if not self.friend.ready:
                self.phase = Phase.WAITING
            session = await self.friend.there()
            if self.refusal is None:
                self.phase = Phase.ASKED
            self._ended(await self._ask(session))
            await asyncio.sleep(self._backoff.pause())

    async def _ask(self, session: Session) -> Exception | None:
        """Ask once, and return why the stream for that has ended."""
        answer, target = _Answer(self), self.request.target
        try:
            transport, _ = await session.dial(lambda: answer, target, early=True, compress=self.compress)
        except StreamRefused as refused:  # it cannot even be asked
            return refused
        number = cast(StreamTransport, transport).stream.id
        self._outlet.add(number, self.door)
        try:
            return await answer.lost
        finally:
            self._outlet.remove(number)
            transport.abort()

    def listens(self, addresses: tuple[str, ...]) -> None:
        """The server says that it listens."""
        self.phase = Phase.LISTENING
        self.addresses = addresses
        self.refusal = None
        self._since = monotonic()
        self.answered.set()
        self._notice("%s: the server listens on %s", self.name, ", ".join(addresses))

    def _ended(self, error: Exception | None) -> None:
        if isinstance(error, StreamRefused):
            self._refused(error)
        elif self.phase is Phase.LISTENING:
            if monotonic() - self._since >= _STEADY:
                self._backoff.restart()
            self._notice("%s: the server listens no more: %s", self.name, error or "it has ended that")
        self.addresses = ()

    def _refused(self, refused: StreamRefused) -> None:
        again = self.refusal is not None and self.refusal.text == refused.text
        self.phase = Phase.REFUSED
        self.refusal = refused
        self.answered.set()
        if not again and refused.code is not Refusal.OFFLINE:
            words = shown(refused.text or refused.code.words, MAX_WORDS)
            self._notice("%s: the server does not listen on %s: %s", self.name, self.request, words)


class _Answer(asyncio.Protocol):
    """The stream that asks. The server writes once where it listens; `lost` is why the stream has ended."""

    def __init__(self, asking: Asking) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._asking = asking
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._said.endswith(b"\n"):
            return  # what a later version may add
        self._said += data[:MOST_TOLD]
        line, end, _ = self._said.partition(b"\n")
        try:
            if end:
                self._said = end
                self._asking.listens(parse_told(line))
            elif len(self._said) >= MOST_TOLD:
                raise ValueError("no line")
        except ValueError:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)
