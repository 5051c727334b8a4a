"""A link that continues when the link below it is lost (SPEC.md, section 8).

    session  ->  DurableLink  ->  a link; when that is lost, the next one
                 RESUME, ACK

It counts frames, and keeps those that the peer has not acknowledged. On each later link both sides
first send RESUME with their counts, then the frames that the other has not received. The session
only notices a pause: it gets every frame, and gets it once.
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

MOST_KEPT = 32 * 1024 * 1024  # bytes that may be unacknowledged: twice the largest window of a link
LEAST_KEPT = 512 * 1024  # bytes: the same where memory is short, twice what one ACK confirms
_ACK_AFTER = 256 * 1024  # bytes received, after which an ACK is sent at once
_ACK_DELAY = 0.5  # seconds after which an ACK is sent for fewer
_GOAWAY, _OURS = b"\x04", (b"\x05", b"\x06")  # type bytes; this layer's own are RESUME and ACK
_SMALL_FRAME = 9 * 1024  # bytes: `frame_size` before the first link


class LinkState(Enum):
    """Whether there is a link, and whether frames may be sent on it.

    AWAY -> MEETING when a link is attached -> HERE when the peer's RESUME came, or when the first link
    is up. Each state goes back to AWAY when the link is lost.
    """

    AWAY = "away"  # no link
    MEETING = "meeting"  # there is a link, but it is not up yet, or RESUME has not come yet
    HERE = "here"  # frames may be sent


class Resumable(Protocol):
    """The session above. It can be resumed as soon as its `identity` is known."""

    def link_up(self) -> None: ...

    def frame_received(self, channel: int, frame: bytes) -> None: ...

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd | Loss) -> None:
        """There will be no more links. This is its last call."""
        ...

    @property
    def identity(self) -> tuple[int, int] | None:
        """The session ids of client and server; None until both are known."""
        ...

    def broken(self, error: RemoteProtocolError) -> None:
        """The peer broke the protocol."""
        ...


class DurableLink:
    """The `Link` of one session, and the `LinkOwner` of the links that carry it.

    `changed` is called with the reason when the session is interrupted, and with None when it is
    resumed. A session whose `identity` is not known yet ends with its first link. The frames that are
    kept are counted in `memory`.
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
        self._again: deque[tuple[int, bytes]] = deque()  # frames to send again, before any new one
        self._unacknowledged = 0  # bytes received since the last ACK
        self._ack_timer: asyncio.TimerHandle | None = None

    def start(self, owner: Resumable) -> None:
        """Set the session that uses this link."""
        self._owner = owner

    def attach(self, link: Link) -> None:
        """Use this link from now on. The caller has made this object its owner."""
        self._link = link
        self.frame_size = link.frame_size
        self.state = LinkState.MEETING

    def expire(self, reason: LinkEnd | Loss) -> None:
        """End the session: it will not be resumed."""
        owner, self._owner = self._owner, None
        self.close()
        if owner is not None:
            owner.link_down(reason)

    def resume(self, frame: frames.Resume) -> None:
        """At the server: the client sent RESUME first. Answer it, and resume the session.

        Raises `RemoteProtocolError` for another session's ids, and for impossible counts.
        """
        self._check(frame)
        self._say_resume()
        self._go_on()

    # The session's calls

    def budget(self) -> int:
        """As `Link.budget`. It is 0 without a link, and while frames are to be sent again."""
        if self.state is not LinkState.HERE or self._again or self._link is None:
            return 0
        return min(self._link.budget(), self._memory.may_keep(LEAST_KEPT, MOST_KEPT))

    def send(self, channel: int, frame: bytes) -> None:
        """As `Link.send`. Without a link, the frame is kept for the next one."""
        self._replay.sent(channel, frame)
        if self._link is not None and (self.state is LinkState.HERE or frame[:1] == _GOAWAY):
            self._link.send(channel, frame)

    def flush(self) -> None:
        """As `Link.flush`."""
        if self._link is not None:
            self._link.flush()

    def close(self) -> None:
        """As `Link.close`."""
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
        if frame[:1] == _GOAWAY:  # the peer no longer knows this session
            self._owner.frame_received(0, frame)
        else:
            self._owner.broken(RemoteProtocolError("neither RESUME nor GOAWAY first on a later link"))

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
            raise RemoteProtocolError("RESUME for another session than the one on this link")
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
