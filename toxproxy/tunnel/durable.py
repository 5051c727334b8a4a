"""A link that outlives the links which carry it.

    session  ->  DurableLink  ->  a link, and when that is lost the next one
                 RESUME, ACK

It counts frames and keeps those that the peer has not acknowledged. On every later link both
sides first say RESUME with their counts, then send what the other has not, and go on: the session
above sees a pause and nothing else, whatever was on the way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Protocol

from toxproxy.errors import RemoteProtocolError
from toxproxy.link.base import Link, LinkEnd
from toxproxy.mux import Allotment, Limits, frames
from toxproxy.mux.replay import Replay
from toxproxy.tunnel.events import Loss

MOST_KEPT = 32 * 1024 * 1024  # bytes that may wait for acknowledgement: twice the largest window of a link
LEAST_KEPT = 512 * 1024  # the first of these where memory is short: twice what is acknowledged at a time
_ACK_AFTER = 256 * 1024  # bytes received
_ACK_DELAY = 0.5  # seconds after fewer
_GOAWAY, _OURS = b"\x04", (b"\x05", b"\x06")  # types of frames; ours are RESUME and ACK
_SMALL_FRAME = 9 * 1024  # bytes: a frame's size until there was a link


class LinkState(Enum):
    """AWAY -> MEETING with a link -> HERE when RESUME was said, or the first link is up; then AWAY again."""

    AWAY = "away"  # no link
    MEETING = "meeting"  # a link, on which the peer has not said RESUME yet
    HERE = "here"


class Resumable(Protocol):
    """The session: it knows who it is, and when that is known it can be resumed."""

    def link_up(self) -> None: ...

    def frame_received(self, channel: int, frame: bytes) -> None: ...

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd | Loss) -> None:
        """There will be no link any more. Its last call."""
        ...

    @property
    def identity(self) -> tuple[int, int] | None:
        """The client's and the server's session id, once both are known."""
        ...

    def broken(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol."""
        ...


class DurableLink:
    """The `Link` of one session, and the `LinkOwner` of the links that carry it.

    `changed` is called when the session was interrupted (with the reason) and when it goes on
    (with None). A session that cannot be resumed yet is lost with its first link. What is kept counts
    in `memory`.
    """

    def __init__(
        self, channels: int, changed: Callable[[LinkEnd | None], None], memory: Allotment | None = None
    ) -> None:
        self.channels = channels
        self.frame_size = _SMALL_FRAME
        self.state = LinkState.AWAY
        self._changed = changed
        self._owner: Resumable | None = None
        self._link: Link | None = None
        self._memory = memory or Allotment(Limits())
        self._replay = Replay(self._memory)
        self._again: deque[tuple[int, bytes]] = deque()  # to be sent again before anything new
        self._unacknowledged = 0  # bytes received since the last ACK
        self._ack_timer: asyncio.TimerHandle | None = None

    def start(self, owner: Resumable) -> None:
        """Whose link this is."""
        self._owner = owner

    def attach(self, link: Link) -> None:
        """Go on over this link, which calls this object its owner."""
        self._link = link
        self.frame_size = link.frame_size
        self.state = LinkState.MEETING

    def expire(self, reason: LinkEnd | Loss) -> None:
        """The session is not to be resumed any more."""
        owner, self._owner = self._owner, None
        self.close()
        if owner is not None:
            owner.link_down(reason)

    def resume(self, frame: frames.Resume) -> None:
        """The peer, first to speak, said RESUME: answer, and go on.

        Raises `RemoteProtocolError` for what does not fit this session.
        """
        self._check(frame)
        self._say_resume()
        self._go_on()

    # The session's calls

    def budget(self) -> int:
        """As `Link`: nothing while there is no link, or something to send again."""
        if self.state is not LinkState.HERE or self._again or self._link is None:
            return 0
        return min(self._link.budget(), self._memory.may_keep(LEAST_KEPT, MOST_KEPT))

    def send(self, channel: int, frame: bytes) -> None:
        """As `Link`."""
        self._replay.sent(channel, frame)
        if self._link is not None and (self.state is LinkState.HERE or frame[:1] == _GOAWAY):
            self._link.send(channel, frame)

    def flush(self) -> None:
        """As `Link`."""
        if self._link is not None:
            self._link.flush()

    def close(self) -> None:
        """As `Link`."""
        self._owner = None
        self._stop_ack_timer()
        if self._link is not None:
            self._link.close()
            self._link = None

    # The link's calls

    def link_up(self) -> None:
        if self._owner is None:
            return
        if self._owner.identity is None:
            self.state = LinkState.HERE
            self._owner.link_up()
        else:
            self._say_resume()

    def frame_received(self, channel: int, frame: bytes) -> None:
        if self._owner is None:
            return
        if channel == 0 and frame[:1] in _OURS:
            try:
                self._take(frames.decode(frame))
            except RemoteProtocolError as error:
                self._owner.broken(error)
        elif channel == 0 and self.state is LinkState.MEETING:
            self._take_refusal(frame)
        else:
            self._replay.received(channel)
            self._unacknowledged += len(frame)
            self._owner.frame_received(channel, frame)

    def link_ready(self) -> None:
        if self._owner is None:
            return
        if self._unacknowledged >= _ACK_AFTER:
            self._acknowledge()
        elif self._unacknowledged and self._ack_timer is None:
            self._ack_timer = asyncio.get_running_loop().call_later(_ACK_DELAY, self._acknowledge)
        if self._again:
            self._send_again()
        self._owner.link_ready()

    def link_down(self, reason: LinkEnd) -> None:
        self._link = None
        self._again.clear()
        self._unacknowledged = 0
        self._stop_ack_timer()
        if self._owner is not None and self._owner.identity is None:
            self.expire(reason)
        else:
            self.state = LinkState.AWAY
            self._changed(reason)

    # RESUME and ACK

    def _take_refusal(self, frame: bytes) -> None:
        assert self._owner is not None
        if frame[:1] == _GOAWAY:  # the peer does not know this session
            self._owner.frame_received(0, frame)
        else:
            self._owner.broken(RemoteProtocolError("neither RESUME nor GOAWAY on a later link"))

    def _take(self, frame: frames.Frame) -> None:
        resumable = self._owner is not None and self._owner.identity is not None
        if isinstance(frame, frames.Ack) and self.state is LinkState.HERE and resumable:
            self._replay.acknowledged(frame.counts)
        elif isinstance(frame, frames.Resume) and self.state is LinkState.MEETING:
            self._check(frame)
            self._go_on()
        else:
            raise RemoteProtocolError(f"{frames.name(type(frame))} at the wrong time")

    def _check(self, frame: frames.Resume) -> None:
        if self._owner is not None and self._owner.identity != (frame.client, frame.server):
            raise RemoteProtocolError("RESUME for another session")
        self._replay.resumed(frame.counts)

    def _go_on(self) -> None:
        self._again.extend(self._replay.unacknowledged())
        self.state = LinkState.HERE
        self._changed(None)
        self.link_ready()

    def _say_resume(self) -> None:
        if self._link is not None and self._owner is not None and self._owner.identity is not None:
            self._link.send(0, frames.encode(self._replay.resumption(*self._owner.identity)))
            self._link.flush()

    def _send_again(self) -> None:
        link = self._link
        while link is not None and self._again and (budget := link.budget()) > 0:
            while self._again and budget > 0:
                channel, frame = self._again.popleft()
                link.send(channel, frame)
                budget -= len(frame)
            link.flush()

    def _acknowledge(self) -> None:
        self._stop_ack_timer()
        self._unacknowledged = 0
        if self._link is not None:
            self._link.send(0, frames.encode(self._replay.acknowledgement()))
            self._link.flush()

    def _stop_ack_timer(self) -> None:
        if self._ack_timer is not None:
            self._ack_timer.cancel()
            self._ack_timer = None
