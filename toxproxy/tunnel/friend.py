"""One friend on the Tox network: whether it is online, and the session with it.

The client dials through a `Friend`, which waits for the session if there is none yet. The server
gives it a host, which serves the streams that the friend opens.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum

from toxproxy.address import MAX_WORDS, Target, UdpTarget, shown
from toxproxy.dialer import FlowOwner, P
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.mux.limits import Limits
from toxproxy.pace import Notice
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tunnel.events import Change, Closed, PeerBroke, PeerClosed, SessionEvent
from toxproxy.tunnel.flow import FlowTransport
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.keeper import SessionKeeper
from toxproxy.tunnel.session import Session

log = logging.getLogger(__name__)

_WAITING = 4096  # dials that may wait for the session at once
_LINES = 10  # log lines a minute about the ends of one friend's sessions


class Phase(Enum):
    """How far the connection to a friend has come."""

    ABSENT = "absent"  # not found on the network, or it has not accepted this side
    LINKING = "linking"  # found; there is no session yet, or it is interrupted
    READY = "ready"  # streams can be opened


class Friend(SessionKeeper):
    """At the client, a `Way` through the server. At the server, a client. The `host` serves its streams.

    `wait` is how long a dial waits for the session, in seconds. `grace` is how long an interrupted
    session and its streams are kept, in seconds. `changed` is called when the phase or the kind of
    connection changes. `name_of` is how the log calls it.
    """

    def __init__(
        self,
        node: Node,
        number: int,
        key: bytes,
        *,
        changed: Callable[[Friend], None],
        grace: float,
        host: Host | None = None,
        near: bool | None = None,
        wait: float = 0.0,
        limits: Limits | None = None,
        name_of: Callable[[bytes], str | None] = lambda _: None,
    ) -> None:
        super().__init__(
            node.lossy_sender(number),
            changed=self._heard_of,
            grace=grace,
            host=host,
            near=near,
            limits=limits,
        )
        self.key = key
        self.connection = ConnectionStatus.NONE
        self.met = False  # there has been a session with it
        self.resumed = 0  # how often a session went on after an interruption
        self._node = node
        self._number = number
        self._wait = wait
        self._tell = changed
        self._name_of = name_of
        self._ready = asyncio.Event()
        self.waiting = 0  # dials that wait for the session
        self._tell_end = Notice(log, most=_LINES)
        node.set_sink(number, self.carrier)

    @property
    def phase(self) -> Phase:
        """How far the connection to this friend has come."""
        if self._ready.is_set():
            return Phase.READY
        return Phase.ABSENT if self.connection is ConnectionStatus.NONE else Phase.LINKING

    @property
    def nickname(self) -> str:
        """What the friend calls itself; it may say anything, in 128 bytes."""
        return self._node.friend_name(self._number)

    @property
    def udp_there(self) -> bool | None:
        """Whether UDP packets reach the friend's node, as it says; None if it has not told."""
        return self._node.udp_there(self._number)

    async def ping(self) -> float:
        """Ask the friend for an answer; see `Session.ping`. Raises `StreamRefused`."""
        return await self._current().ping()

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        """Open a stream; see `Dialer.dial`.

        Raises `StreamRefused`, with the code OFFLINE if there is no session after `wait` seconds.
        """
        await self.reached()
        return await self._current().dial(protocol_factory, target, early=early, compress=compress)

    async def reached(self) -> None:
        """Wait for the session, as `dial` does. Raises `StreamRefused`."""
        if self._ready.is_set():
            return
        if self.waiting >= _WAITING:
            raise StreamRefused(Refusal.OFFLINE, "too many connections wait for the server")
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._ready.wait()
        except TimeoutError:
            raise StreamRefused(Refusal.OFFLINE, self._missing()) from None
        finally:
            self.waiting -= 1

    async def there(self) -> Session:
        """Wait for a session with a link, however long that takes."""
        while not self._ready.is_set() or self.session is None:
            await self._ready.wait()
        return self.session

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> FlowTransport:
        """Open a flow of datagrams; see `FlowDialer.open_flow`. Does not wait for a session.

        Raises `StreamRefused`, with the code OFFLINE if there is none.
        """
        return self._current().open_flow(owner, target)

    def _current(self) -> Session:
        if self.session is None:
            raise StreamRefused(Refusal.OFFLINE, "the peer is not connected")
        return self.session

    def connection_changed(self, connection: ConnectionStatus) -> None:
        """Tox reports how the friend is connected now."""
        was, self.connection = self.connection, connection
        log.debug("friend %s: %s", self._called, connection.name.lower())
        if connection is ConnectionStatus.NONE:
            self.lose()
        elif was is ConnectionStatus.NONE:
            self.reach()
        self._tell(self)

    async def close(self, text: str) -> None:
        """End the session, tell the peer why, and stop taking the friend's packets."""
        await super().close(text)
        self._node.set_sink(self._number, None)

    def _missing(self) -> str:
        if self._node.connection is ConnectionStatus.NONE:
            return f"the Tox network was not found within {self._wait:g} s: is this machine online?"
        if self.phase is Phase.ABSENT:
            return (
                f"the server was not found within {self._wait:g} s: it is off, or it has not let this "
                f"client in (on the server: toxproxy allow {self._node.public_key.hex().upper()})"
            )
        return f"the server was found but did not answer within {self._wait:g} s"

    @property
    def _called(self) -> str:
        return called(self.key, self._name_of(self.key))

    def _heard_of(self, what: SessionEvent) -> None:
        tell = self._tell_end if what.change is Change.ENDED else log.debug  # the status shows the others
        tell("session with %s %s", self._called, words(what))
        self.resumed += what.change is Change.RESUMED
        if self.ready:
            self.met = True
            self._ready.set()
        else:
            self._ready.clear()
        self._tell(self)


def short(key: bytes) -> str:
    """The first 12 digits of a key, enough for people to distinguish friends."""
    return key.hex().upper()[:12]


def called(key: bytes, name: str | None) -> str:
    """A friend, for people: its name, if it has one, and its key."""
    return short(key) if name is None else f"{name} ({short(key)})"


def words(what: SessionEvent) -> str:
    """What happened to a session, as the end of the sentence "session with KEY ..."."""
    match what.reason:
        case None:
            return what.change.value
        case Closed(text):
            why = text
        case PeerBroke(text):
            why = f"the peer broke the protocol: {text}"
        case PeerClosed(code, text):
            said = f"the peer said {shown(text, MAX_WORDS)}" if text else "the peer ended the session"
            why = f"{said} ({code.name.lower().replace('_', ' ')})"
        case reason:  # a `LinkEnd` or a `Loss`
            why = reason.value
    return f"{what.change.value}: {why}"
