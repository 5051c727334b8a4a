"""Two machines meet over the Tox network, as the throw-away identities of an invitation."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Self

from toxproxy.address import ToxId
from toxproxy.config.settings import ToxSettings
from toxproxy.errors import ToxproxyError
from toxproxy.pairing.exchange import Inviter, Joiner, Reason, Side, Stage
from toxproxy.pairing.messages import MOST_BYTES, SESSION_BYTES
from toxproxy.pairing.place import Place
from toxproxy.pairing.words import Words
from toxproxy.system.state import StateFolder
from toxproxy.tox.identity import save_key
from toxproxy.tox.node import ConnectionStatus, Node

if TYPE_CHECKING:
    from _cffi_backend import buffer as Buffer

LIFETIME = 600.0  # seconds that an invitation holds
PATIENCE = 120.0  # seconds that a joiner looks for the inviter

# Seconds until an end that met nobody begins again with a new node. In a small network, above all one with
# many nodes that have left, some nodes look at the wrong places for minutes, and a new one finds at once. An
# inviter does so seldom, since a joiner that looks for it meanwhile loses what it has found.
_JOINER_AGAIN, _INVITER_AGAIN = 30.0, 120.0  # an inviter waits twice as long each time
_EXCHANGE = 30.0  # seconds from when the two have met until both know the other's key
_FAREWELL = 3.0  # seconds that a joiner waits to hear that the inviter knows it, too
_REPEAT = 0.5  # seconds until a message without an answer is sent again
_LAST_TIMES = 6  # that the last message is sent, while the other end is there
_MOST_PACKETS = 32  # that wait to be read; more are dropped


class Step(Enum):
    """What the owner is told meanwhile."""

    NO_NETWORK = "looking for the Tox network"
    AGAIN = "nobody was met, so a new node begins again"
    NETWORK = "looking for the other end"
    MET = "the other end is there"


class PairingFailed(ToxproxyError):
    """The two ends were not joined. `reason` is the other end's, or this end's own.

    `attempts` is how often somebody began with the words at this inviter.
    """

    def __init__(self, reason: Reason, attempts: int = 0) -> None:
        super().__init__(f"not joined: {reason.name.lower()}")
        self.reason = reason
        self.attempts = attempts


class Absent(ToxproxyError):
    """The other end was not found, or stopped answering."""

    def __init__(self, *, met: bool) -> None:
        super().__init__("the other end stopped answering" if met else "the other end was not found")
        self.met = met


@dataclass(frozen=True, slots=True)
class Joined:
    """The result of a pairing.

    `check`: the check words. `server`: its Tox ID. `client`: the key of the client. `confirmed`: the
    other end has said that it knows. `attempts`: how often somebody began with the words, for the inviter.
    """

    check: Words
    server: ToxId
    client: bytes
    confirmed: bool
    attempts: int = field(default=0, compare=False)


async def invite(
    words: Words,
    place: Place,
    settings: ToxSettings,
    admit: Callable[[bytes], Awaitable[ToxId]],
    tell: Callable[[Step], None],
    lifetime: float = LIFETIME,
) -> Joined:
    """Wait for one joiner, for `lifetime` seconds, and let it in.

    `admit` lets a client's public key in and returns the server's Tox ID; what it raises ends the
    invitation. Raises `PairingFailed`, and what `Node.start` does.
    """
    side = Inviter(words, place)
    async with _Meeting(place.inviter_secret, place.joiner_key, settings, tell) as meeting:
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(lifetime):
                    await meeting.find(_INVITER_AGAIN * 2**n for n in count())
                    await meeting.run(side, {Stage.PROVEN, Stage.FAILED})
            if side.stage is Stage.PROVEN:
                server = await admit(side.client_key)
                side.welcome(server)
            elif side.reason is None:
                side.refuse(Reason.EXPIRED)
        except BaseException as error:
            side.refuse(Reason.CANCELLED if isinstance(error, asyncio.CancelledError) else Reason.FAILED)
            meeting.send(side.packet)
            raise
        if side.reason is not None:
            await meeting.say_last(side)
            raise PairingFailed(side.reason, side.attempts)
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXCHANGE):
                await meeting.run(side, {Stage.JOINED})
            await meeting.say_last(side)
        return Joined(side.check, server, side.client_key, side.stage is Stage.JOINED, side.attempts)


async def join(
    words: Words,
    place: Place,
    settings: ToxSettings,
    key: bytes,
    tell: Callable[[Step], None],
    patience: float = PATIENCE,
) -> Joined:
    """Find the inviter within `patience` seconds, and be let in as the client with this public key.

    Raises `PairingFailed`, `Absent`, and what `Node.start` does.
    """
    side = Joiner(words, place, key, os.urandom(SESSION_BYTES))
    async with _Meeting(place.joiner_secret, place.inviter_key, settings, tell) as meeting:
        try:
            async with asyncio.timeout(patience):
                await meeting.find(repeat(_JOINER_AGAIN))
            async with asyncio.timeout(_EXCHANGE):
                await meeting.run(side, {Stage.WELCOMED, Stage.FAILED})
        except TimeoutError:
            raise Absent(met=meeting.met.is_set()) from None
        if side.reason is not None:
            await meeting.say_last(side)
            raise PairingFailed(side.reason)
        with suppress(TimeoutError):
            async with asyncio.timeout(_FAREWELL):
                await meeting.run(side, {Stage.JOINED})
        return Joined(side.check, side.server, key, side.stage is Stage.JOINED)


class _Meeting:
    """A node with a throw-away identity and one friend, the other end's. It ends with the context.

    The identity is the same for each node that begins again.
    """

    def __init__(
        self, secret: bytes, other: bytes, settings: ToxSettings, tell: Callable[[Step], None]
    ) -> None:
        #: Set once the other end was there.
        self.met = asyncio.Event()
        self._secret = secret
        self._other = other
        self._settings = _beside_others(settings)
        self._tell = tell
        self._packets: asyncio.Queue[bytes] = asyncio.Queue(_MOST_PACKETS)
        self._resources = AsyncExitStack()
        self._friend: int | None = None  # its number, while the node runs
        self._parting = False

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stop()

    async def find(self, spans: Iterable[float]) -> None:
        """Wait until the other end was there; after each of these spans of seconds with a new node."""
        for span in spans:
            with suppress(TimeoutError):
                async with asyncio.timeout(span):
                    await self.met.wait()
            if self.met.is_set():
                return
            self._tell(Step.AGAIN)
            await self._stop()
            await self._start()

    async def _start(self) -> None:
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="toxproxy-pairing-"))
            state = StateFolder(Path(folder))
            save_key(self._secret, state)
            self._tell(Step.NO_NETWORK)
            self._node = await stack.enter_async_context(Node(self._settings, state, "toxproxy", self))
            self._friend = self._node.admit_friend(self._other)
            self._node.set_sink(self._friend, self)
            self._resources = stack.pop_all()

    async def _stop(self) -> None:
        self._friend = None
        await self._resources.aclose()

    async def run(self, side: Side, stages: Collection[Stage]) -> None:
        """Carry messages between `side` and the other end until it is in one of `stages`."""
        while side.stage not in stages:
            try:
                async with asyncio.timeout(_REPEAT):
                    packet = await self._packets.get()
            except TimeoutError:
                self.send(side.packet)
                continue
            self.send(side.receive(packet))

    async def say_last(self, side: Side) -> None:
        """Repeat the last message for a while, if there is one and the other end is there."""
        self._parting = True
        for _ in range(_LAST_TIMES):
            if side.packet is None or not self._is_there:
                return
            self.send(side.packet)
            with suppress(TimeoutError):
                async with asyncio.timeout(_REPEAT):
                    await self.run(side, ())

    def send(self, packet: bytes | None) -> None:
        """Send a packet, if there is one and the other end is there."""
        if packet is not None and self._friend is not None and self._is_there:
            self._node.send_lossy(self._friend, packet)

    @property
    def _is_there(self) -> bool:
        if self._friend is None:
            return False
        return self._node.friend_connection(self._friend) is not ConnectionStatus.NONE

    # What the node says

    def connection_changed(self, connection: ConnectionStatus) -> None:
        if not self.met.is_set():
            self._tell(Step.NO_NETWORK if connection is ConnectionStatus.NONE else Step.NETWORK)

    def friend_connection_changed(self, friend: int, connection: ConnectionStatus) -> None:
        if connection is not ConnectionStatus.NONE:
            self.met.set()
            self._tell(Step.MET)
        elif not self._parting:
            self._tell(Step.NETWORK)

    def friend_request(self, key: bytes, message: bytes) -> None:
        """Nobody else may be a friend."""

    def packet_received(self, packet: Buffer) -> None:
        if len(packet) <= MOST_BYTES and not self._packets.full():
            self._packets.put_nowait(packet[:])

    def batch_ended(self) -> None:
        """Nothing is done for several packets together."""


def _beside_others(settings: ToxSettings) -> ToxSettings:
    """The settings for a node that runs beside a server with the same ones, which has the ports."""
    first, last = settings.ports
    return replace(settings, tcp_relay=0, ports=settings.ports if first < last else ToxSettings().ports)
