"""The session with one peer, through all of its links; and when it ended, the next one.

Only the near end begins links. At the far end the first frame of a link says whose it is: RESUME
names the session that goes on, and with anything else a new one begins, so what is left of the
old one ends: the client was restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from toxproxy.dialer import Dialer
from toxproxy.durable import DurableLink, State
from toxproxy.errors import GoAwayCode, RemoteProtocolError
from toxproxy.link.base import LinkOwner
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import CHANNELS, EnetLink
from toxproxy.mux import Limits, frames
from toxproxy.relay import Halves
from toxproxy.session import Session

GRACE = 600.0  # seconds
_RETRY = 1.0  # seconds between a link that failed and the next


class Sessions:
    """Keeps a session with a peer whose packets `carrier` is given.

    `changed` is called with a sentence whenever a session began, was interrupted, went on or ended.
    An interrupted one is kept for `grace` seconds. With an `exit` this is the far end.
    """

    def __init__(
        self,
        send: Callable[[memoryview], bool],
        *,
        changed: Callable[[str], None],
        exit: Dialer | None = None,
        limits: Limits | None = None,
        grace: float = GRACE,
    ) -> None:
        self.carrier = Carrier(send, self._own)
        self.session: Session | None = None
        self._durable: DurableLink | None = None
        self._halves = Halves()  # dialled for the peer, in any session
        self._near = exit is None
        self._exit = exit
        self._limits = limits
        self._changed = changed
        self._grace = grace
        self._reachable = False
        self._retry: asyncio.TimerHandle | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def ready(self) -> bool:
        """Whether streams can be opened, and have a link."""
        if self.session is None or self._durable is None:
            return False
        return self.session.established and self._durable.state is State.HERE

    @property
    def streams(self) -> int:
        """How many streams live."""
        return self.session.streams if self.session is not None else 0

    @property
    def connections(self) -> int:
        """How many connections `idle` would wait for."""
        return max(self.streams, len(self._halves))

    def reach(self) -> None:
        """The peer can be reached."""
        self._reachable = True
        if self._near:
            self._connect()

    def lose(self, reason: str) -> None:
        """The peer can be reached no more."""
        self._reachable = False
        self._stop_retrying()
        if self.carrier.link is not None:
            self.carrier.link.fail(reason)

    async def idle(self) -> None:
        """Wait until no stream lives, and everything that came through one has been delivered."""
        if self.session is not None:
            await self.session.idle()
        await self._halves.idle()

    async def close(self, text: str) -> None:
        """End the session, telling the peer why, and free everything."""
        self._reachable = False
        self._stop_retrying()
        if self.session is not None:
            self.session.close(text)
        self._halves.reset()
        await self.carrier.close()

    # Links

    def _connect(self) -> None:
        self._stop_retrying()
        self.carrier.connect()

    def _connect_soon(self, seconds: float) -> None:
        if self._near and self._reachable:
            self._stop_retrying()
            self._retry = asyncio.get_running_loop().call_later(seconds, self._connect)

    def _own(self, link: EnetLink) -> LinkOwner:
        if not self._near:
            return _Greeter(self, link)
        durable = self._durable or self._begin()
        durable.attach(link)
        return durable

    def greeted(self, link: EnetLink, channel: int, frame: bytes) -> None:
        """The first frame of a link that the peer began."""
        try:
            first = frames.decode(frame)
        except RemoteProtocolError:
            first = None  # the new session will say what is wrong with it
        session = self.session
        if channel or not isinstance(first, frames.Resume):
            if self._durable is not None:
                self._durable.expire("the client was restarted")
            durable = self._begin()
            durable.attach(link)
            link.owner = durable
            durable.link_up()
            durable.frame_received(channel, frame)
        elif self._durable and session and session.identity == (first.client, first.server):
            self._durable.attach(link)
            link.owner = self._durable
            try:
                self._durable.resume(first)
            except RemoteProtocolError as error:
                session.broken(error)
        else:
            if self._durable is not None:
                self._durable.expire("the client has another session")
            link.send(0, frames.encode(frames.GoAway(GoAwayCode.NO_SESSION, _FORGOTTEN)))
            link.close()

    def _stop_retrying(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    # Sessions

    def _begin(self) -> DurableLink:
        def changed(interruption: str | None) -> None:
            if self._durable is durable:
                self._interrupted(interruption) if interruption is not None else self._resumed()

        def ended(reason: str) -> None:
            if self._durable is durable:
                self._ended(reason)

        durable = self._durable = DurableLink(CHANNELS, changed)
        self.session = Session(
            durable,
            client=self._near,
            exit=self._exit,
            halves=self._halves,
            limits=self._limits,
            on_established=lambda: self._changed("began"),
            on_end=ended,
        )
        durable.start(self.session)
        return durable

    def _interrupted(self, reason: str) -> None:
        self._connect_soon(0)
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(self._grace, self._expire)
            self._changed(f"interrupted: {reason}")

    def _resumed(self) -> None:
        self._stop_expiry()
        self._changed("goes on")

    def _expire(self) -> None:
        self._expiry = None
        if self._durable is not None:
            self._durable.expire(f"interrupted for {self._grace:g} s")

    def _ended(self, reason: str) -> None:
        self._stop_expiry()
        self.session = self._durable = None
        self._connect_soon(_RETRY)
        self._changed(f"ended: {reason}")

    def _stop_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None


_FORGOTTEN = (
    "this session is not known here (any more): the program was restarted, or it was interrupted for too long"
)


class _Greeter:
    """The owner of a link that the peer began, until its first frame shows whose it is."""

    def __init__(self, sessions: Sessions, link: EnetLink) -> None:
        self._sessions = sessions
        self._link = link

    def link_up(self) -> None:
        pass

    def frame_received(self, channel: int, frame: bytes) -> None:
        self._sessions.greeted(self._link, channel, frame)

    def link_ready(self) -> None:
        pass

    def link_down(self, reason: str) -> None:
        pass
