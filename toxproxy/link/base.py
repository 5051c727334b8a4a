"""The interface of a link, and of its owner, a session.

A link has `channels` channels. The frames of one channel arrive in order and once; channels do not
wait for one another. `budget` says how many bytes the link accepts now. It queues very little, so
that the session decides the order of sending.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class LinkEnd(Enum):
    """Why a link ended."""

    PEER_ENDED = "peer ended"  # the peer disconnected, or refused the connection
    UNANSWERED = "unanswered"  # the peer did not answer, so the link never came up
    SILENT = "silent"  # an answer was due, and nothing came in time
    REPLACED = "replaced"  # a new link took its place
    UNREACHABLE = "unreachable"  # Tox says that the friend is offline
    FAILED = "failed"  # a socket or ENet failed on this side


class LinkOwner(Protocol):
    """Is told what happens on the link. Calls come from the event loop, never from within its own calls."""

    def link_up(self) -> None:
        """The link is connected: frames may be sent."""

    def frame_received(self, channel: int, frame: bytes) -> None:
        """One frame came."""

    def link_ready(self) -> None:
        """Frames and acknowledgements that came were handled: the budget may have grown."""

    def link_down(self, reason: LinkEnd) -> None:
        """The link has ended. This is its last call."""


class Link(Protocol):
    """Reliable ordered channels to one peer."""

    channels: int
    frame_size: int  # bytes: the best size of a large frame

    def budget(self) -> int:
        """How many bytes of frames may be sent now."""
        ...

    def send(self, channel: int, frame: bytes) -> None:
        """Hand over one frame; `flush` sends it at the latest."""
        ...

    def flush(self) -> None:
        """Send what was handed over."""
        ...

    def close(self) -> None:
        """End the link after what was sent, and free everything. The owner is not called any more."""
        ...
