"""Keeps a session with one peer over all of its links. When the session ends, the next one begins.

Only the client begins links. At the server, the first packet on a link says which session it is for:
the INTRODUCTION in it names the one that goes on, or a new one. A new one ends the old one, if there is
one left: the client was restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from toxproxy.errors import CloseCode
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import SILENCE, EnetLink
from toxproxy.mux.limits import Limits
from toxproxy.pace import Backoff, Pace
from toxproxy.recovery.packet import close, closing, introduction
from toxproxy.timer import Timer
from toxproxy.tunnel.events import Change, Loss, PeerClosed, SessionEnd, SessionEvent
from toxproxy.tunnel.host import Host
from toxproxy.tunnel.session import Session
from toxproxy.tunnel.transport import StreamEnd

_LAST_WORDS = 1.0  # seconds that this side's CLOSE has to arrive, before a new link replaces its link
_SESSIONS = 60  # how many a client may begin in a minute
_STEADY = 30.0  # seconds of a working link after which pauses start again from none
# After these ends the next link may begin at once: the path failed, or they took seconds anyway.
_NO_PAUSE = frozenset(
    {LinkEnd.UNANSWERED, LinkEnd.SILENT, LinkEnd.ASLEEP, LinkEnd.REPLACED, LinkEnd.UNREACHABLE}
)
_TOO_OFTEN = f"more than {_SESSIONS} sessions were begun within a minute: try again later"
_FORGOTTEN = (
    "this session is not known here: the program was restarted, or the session was interrupted for too long"
)


class SessionKeeper(LinkOwner):
    """Keeps a session with one peer. `carrier` must be given the peer's packets; `send` is for it.

    At the server it owns a new link until a packet says which session the link is for.

    `changed` is called when a session began, was interrupted, was resumed or has ended. An interrupted
    session is kept for `grace` seconds. The `host` serves the peer's streams. Unless `near` says which side
    this is, it is the server with a host, and otherwise the client.

    If the path failed, the client begins a new link at once. If the peer ended the link or the session,
    or if no link can be made, it backs off: the pauses grow up to 30 seconds, until a link has worked
    for 30 seconds.
    """

    def __init__(
        self,
        send: Callable[[Any, int], bool],
        *,
        changed: Callable[[SessionEvent], None],
        grace: float,
        host: Host | None = None,
        near: bool | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._near = host is None if near is None else near
        self.carrier = Carrier(send, self._own, connecting=self._near)
        self.session: Session | None = None
        self._carried = 0, 0  # bytes of streams, sent and received, in sessions that have ended
        self._host = host or Host()
        self._limits = limits
        self._changed = changed
        self._grace = grace
        self._reachable = False
        self._backoff = Backoff()
        self._begun = Pace(_SESSIONS)
        self._steady = Timer(self._backoff.restart)  # set while a link works
        self._retry = Timer(self._connect)
        self._expiry = Timer(self._expire)

    @property
    def ready(self) -> bool:
        """Whether streams can be opened, and there is a link for them."""
        return self.session is not None and self.session.multiplexer.established and self.session.recovery.met

    @property
    def streams(self) -> list[StreamEnd]:
        """The streams that have not ended."""
        return self.session.streams if self.session is not None else []

    @property
    def carried(self) -> tuple[int, int]:
        """Bytes that streams have sent and received in all sessions, before compression."""
        now = self.session.multiplexer.carried if self.session is not None else (0, 0)
        return self._carried[0] + now[0], self._carried[1] + now[1]

    @property
    def connections(self) -> int:
        """How many connections `idle` would wait for."""
        return max(sum(each.stream.flow is None for each in self.streams), self._host.connections)

    def reach(self) -> None:
        """The peer is online now."""
        self._reachable = True
        if self._near:
            self._connect()

    def lose(self) -> None:
        """The peer is offline now."""
        self._reachable = False
        self._retry.stop()
        if self.carrier.link is not None:
            self.carrier.link.fail(LinkEnd.UNREACHABLE)

    def woke(self, asleep: float) -> None:
        """This process did nothing for so many seconds. The peer ends a link that is silent for too long."""
        if asleep >= SILENCE and self.carrier.link is not None:
            self.carrier.link.fail(LinkEnd.ASLEEP)

    async def idle(self) -> None:
        """Wait until all streams have ended, and everything received through them has been delivered."""
        if self.session is not None:
            await self.session.idle()
        await self._host.idle()

    async def close(self, text: str) -> None:
        """End the session, tell the peer why, and free everything."""
        self._reachable = False
        self._retry.stop()
        if self.session is not None:
            self.session.close(text)
        self._host.reset()
        await self.carrier.close()

    # Links

    def _connect(self) -> None:
        self._retry.stop()
        if not self.carrier.connect():
            self._connect_after(LinkEnd.FAILED)

    def _connect_after(self, reason: SessionEnd | None, *, at_least: float = 0.0) -> None:
        """Begin the next link after a pause that depends on how the last link or session ended."""
        self._steady.stop()
        if self._near and self._reachable:
            pause = 0.0 if reason in _NO_PAUSE else self._backoff.pause()
            self._retry.set(max(at_least, pause))

    def _own(self, link: EnetLink) -> LinkOwner:
        if not self._near:
            return self
        session = self.session or self._begin()
        session.attach(link)
        return session

    def packet_received(self, packet: bytes) -> None:
        """A packet came on a link that the peer began, and none before it said which session it is for."""
        link = self.carrier.link
        assert link is not None
        if closing(packet) is not None and self.session is not None:
            self._continue(link, packet, self.session)  # the client has ended its session
        elif (ids := introduction(packet)) is None:
            pass  # a later packet that overtook the first ones
        elif self.session is not None and self.session.is_meant(*ids):
            self._continue(link, packet, self.session)
        elif ids[1]:
            self._expire(Loss.FORGOTTEN)
            link.close(close(CloseCode.NO_SESSION, _FORGOTTEN))
        elif not self._begun.take():
            link.close(close(CloseCode.PROTOCOL_ERROR, _TOO_OFTEN))
        else:
            self._expire(Loss.RESTARTED)
            self._continue(link, packet, self._begin(introduced=ids[0]))

    def _continue(self, link: EnetLink, packet: bytes, session: Session) -> None:
        session.attach(link)
        session.link_up()
        session.packet_received(packet)

    # Sessions

    def _begin(self, introduced: int | None = None) -> Session:
        self.session = Session(
            changed=self._session_changed, introduced=introduced, host=self._host, limits=self._limits
        )
        return self.session

    def _session_changed(self, what: SessionEvent) -> None:
        match what.change:
            case Change.BEGAN | Change.RESUMED:
                self._expiry.stop()
                self._steady.set(_STEADY)
            case Change.INTERRUPTED:
                self._connect_after(what.reason)
                if not self._expiry.running:  # else it was interrupted before, and not resumed since
                    self._expiry.set(self._grace)
            case Change.ENDED:
                self._expiry.stop()
                self._carried = self.carried
                self.session = None
                last_words = 0.0 if isinstance(what.reason, PeerClosed) else _LAST_WORDS
                self._connect_after(what.reason, at_least=last_words)
        self._changed(what)

    def _expire(self, reason: Loss = Loss.EXPIRED) -> None:
        """End the session, if there is one: it will not be resumed."""
        if self.session is not None:
            self.session.expire(reason)
