"""What a link, `EnetLink`, tells its owner, a session.

A link carries packets of 1 to `PACKET_SIZE` bytes. It loses some, repeats some and changes their order,
and knows nothing of their contents: recovery is above it. A link is disposable; a session lives through
many.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class LinkEnd(Enum):
    """Why a link ended."""

    PEER_ENDED = "peer ended"  # the peer disconnected, or refused the connection
    UNANSWERED = "unanswered"  # the peer did not answer, so the link never came up
    SILENT = "silent"  # nothing came for `SILENCE` seconds, though each PING is answered
    REPLACED = "replaced"  # a new link took its place
    UNREACHABLE = "unreachable"  # Tox says that the friend is offline
    FAILED = "failed"  # a socket or ENet failed on this side


class LinkOwner(Protocol):
    """Is told what happens on the link. Calls come from the event loop, never from within its own calls."""

    def link_up(self) -> None:
        """The link is connected: packets may be sent."""

    def packet_received(self, packet: bytes) -> None:
        """One packet came."""

    def link_ready(self) -> None:
        """A batch of datagrams was handled. Packets were passed on if there were any in it."""

    def link_down(self, reason: LinkEnd) -> None:
        """The link has ended. This is its last call."""
