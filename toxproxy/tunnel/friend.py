"""One friend on the Tox network: whether it is online, and the session with it.

The client dials through a `Friend`, which waits for the session if there is none yet. The server
gives it an exit, through which the friend dials.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import Enum

from toxproxy.address import MAX_WORDS, Target, UdpTarget, shown
from toxproxy.dialer import FlowOwner, P, Way
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.mux.limits import Limits
from toxproxy.pace import Notice
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tunnel.events import Change, Closed, PeerBroke, PeerClosed, SessionEvent
from toxproxy.tunnel.figures import Figures
from toxproxy.tunnel.flow import FlowTransport
from toxproxy.tunnel.keeper import SessionKeeper
from toxproxy.tunnel.session import Session
from toxproxy.tunnel.transport import StreamTransport

log = logging.getLogger(__name__)

_WAITING = 4096  # dials that may wait for the session at once
_LINES = 10  # log lines a minute about the ends of one friend's sessions


class Phase(Enum):
    """How far the connection to a friend has come."""

    ABSENT = "absent"  # not found on the network, or it has not accepted this side
    LINKING = "linking"  # found; there is no session yet, or it is interrupted
    READY = "ready"  # streams can be opened


class Friend:
    """At the client, a `Way` through the server. At the server, a client that dials through `exit`.

    `wait` is how long a dial waits for the session, in seconds. `grace` is how long an interrupted
    session and its streams are kept, in seconds. `changed` is called when the phase or the kind of
    connection changes. `turned_away`: see `Session`.
    """

    def __init__(
        self,
        node: Node,
        number: int,
        key: bytes,
        *,
        changed: Callable[[Friend], None],
        grace: float,
        exit: Way | None = None,
        wait: float = 0.0,
        limits: Limits | None = None,
        turned_away: Callable[[Target], None] = lambda _: None,
    ) -> None:
        self.key = key
        self.connection = ConnectionStatus.NONE
        self.met = False  # there has been a session with it
        self.resumed = 0  # how often a session went on after an interruption
        self._node = node
        self._number = number
        self._wait = wait
        self._changed = changed
        self._ready = asyncio.Event()
        self._waiting = 0
        self._tell_end = Notice(log, most=_LINES)
        self._keeper = SessionKeeper(
            node.lossy_sender(number),
            changed=self._session_changed,
            exit=exit,
            limits=limits,
            grace=grace,
            turned_away=turned_away,
        )
        node.set_sink(number, self._keeper.carrier)

    @property
    def phase(self) -> Phase:
        """How far the connection to this friend has come."""
        if self._ready.is_set():
            return Phase.READY
        return Phase.ABSENT if self.connection is ConnectionStatus.NONE else Phase.LINKING

    @property
    def streams(self) -> int:
        """How many streams have not ended."""
        return self._keeper.streams

    @property
    def flows(self) -> int:
        """How many of them are flows of datagrams."""
        return self._keeper.flows

    @property
    def waiting(self) -> int:
        """How many dials wait for the session."""
        return self._waiting

    @property
    def figures(self) -> Figures | None:
        """What was measured in the session; None without one."""
        session = self._keeper.session
        return session.figures if session is not None else None

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that streams have sent and received since the program began, before compression."""
        return self._keeper.carried

    def transports(self) -> list[StreamTransport | FlowTransport]:
        """The streams that have not ended."""
        session = self._keeper.session
        return session.transports() if session is not None else []

    async def ping(self) -> float:
        """Ask the friend for an answer; see `Session.ping`. Raises `StreamRefused`."""
        session = self._keeper.session
        if session is None:
            raise StreamRefused(Refusal.OFFLINE, "the peer is not connected")
        return await session.ping()

    @property
    def connections(self) -> int:
        """How many connections `idle` would wait for."""
        return self._keeper.connections

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """Open a stream; see `Dialer.dial`.

        Raises `StreamRefused`, with the code OFFLINE if there is no session after `wait` seconds.
        """
        await self.reached()
        return await self._session().dial(protocol_factory, target, early=early, compress=compress)

    async def reached(self) -> None:
        """Wait for the session, as `dial` does. Raises `StreamRefused`."""
        if not self._ready.is_set():
            await self._wait_for_session()

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> FlowTransport:
        """Open a flow of datagrams; see `FlowDialer.open_flow`. Does not wait for a session.

        Raises `StreamRefused`, with the code OFFLINE if there is none.
        """
        return self._session().open_flow(owner, target)

    def _session(self) -> Session:
        if (session := self._keeper.session) is None:
            raise StreamRefused(Refusal.OFFLINE, "the server is not connected")
        return session

    def change(self, limits: Limits) -> None:
        """Use other limits from now on; see `Multiplexer.change`."""
        self._keeper.change(limits)

    async def idle(self) -> None:
        """Wait until all streams have ended, and everything received through them has been delivered."""
        await self._keeper.idle()

    def connection_changed(self, connection: ConnectionStatus) -> None:
        """Tox reports how the friend is connected now."""
        was, self.connection = self.connection, connection
        log.debug("friend %s: %s", short(self.key), connection.name.lower())
        if connection is ConnectionStatus.NONE:
            self._keeper.lose()
        elif was is ConnectionStatus.NONE:
            self._keeper.reach()
        self._changed(self)

    async def close(self, text: str) -> None:
        """End the session, tell the peer why, and stop taking the friend's packets."""
        await self._keeper.close(text)
        self._node.set_sink(self._number, None)

    async def _wait_for_session(self) -> None:
        if self._waiting >= _WAITING:
            raise StreamRefused(Refusal.OFFLINE, "too many connections wait for the server")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait):
                await self._ready.wait()
        except TimeoutError:
            raise StreamRefused(Refusal.OFFLINE, self._missing()) from None
        finally:
            self._waiting -= 1

    def _missing(self) -> str:
        if self._node.connection is ConnectionStatus.NONE:
            return f"the Tox network was not found within {self._wait:g} s: is this machine online?"
        if self.phase is Phase.ABSENT:
            return (
                f"the server was not found within {self._wait:g} s: it is off, or it has not let this "
                f"client in (on the server: toxproxy allow {self._node.public_key.hex().upper()})"
            )
        return f"the server was found but did not answer within {self._wait:g} s"

    def _session_changed(self, what: SessionEvent) -> None:
        tell = self._tell_end if what.change is Change.ENDED else log.debug  # the status shows the others
        tell("session with %s %s", short(self.key), words(what))
        self.resumed += what.change is Change.RESUMED
        if self._keeper.ready:
            self.met = True
            self._ready.set()
        else:
            self._ready.clear()
        self._changed(self)


def short(key: bytes) -> str:
    """The first 12 digits of a key, enough for people to distinguish friends."""
    return key.hex().upper()[:12]


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
