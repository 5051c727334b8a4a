"""What a session needs of a link, and what a link tells its owner.

A link has `channels` channels. Frames of one channel arrive in order and once; channels do
not wait for one another. The link says how many bytes it would take now (`budget`) and keeps
no queue to speak of, so that the order of sending stays the session's to decide.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class LinkEnd(Enum):
    """Why a link is gone."""

    PEER_ENDED = "peer ended"  # or refused, before it was up
    UNANSWERED = "unanswered"  # it was never up
    SILENT = "silent"  # an answer was due, and nothing came
    REPLACED = "replaced"  # by a new one
    UNREACHABLE = "unreachable"  # the carrier says that the peer is gone
    FAILED = "failed"  # this side's own means failed: a socket, ENet


class LinkOwner(Protocol):
    """Hears of the link. Calls come from the event loop, never from within the owner's own call."""

    def link_up(self) -> None:
        """Frames may be sent."""

    def frame_received(self, channel: int, frame: bytes) -> None:
        """One frame came."""

    def link_ready(self) -> None:
        """A batch of frames and acknowledgements was handled: the budget may have grown."""

    def link_down(self, reason: LinkEnd) -> None:
        """The link is gone for good. Its last call."""


class Link(Protocol):
    """Reliable ordered channels to one peer."""

    channels: int
    frame_size: int  # bytes: the largest frame that is a good use of the link

    def budget(self) -> int:
        """Bytes of frames that may be sent now without queueing."""
        ...

    def send(self, channel: int, frame: bytes) -> None:
        """Hand over one frame; it leaves with `flush` at the latest."""
        ...

    def flush(self) -> None:
        """Send what was handed over."""
        ...

    def close(self) -> None:
        """Tell the peer, after what was sent before, and free everything. No call to the owner follows."""
        ...
