"""The interface of a link, and of its owner, a session.

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
    SILENT = "silent"  # nothing came for `SILENCE` seconds, though the peer answers pings
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


class Link(Protocol):
    """Packets to one peer, and from it. They may be lost, come twice, and in any order."""

    heard: float  # when a datagram last came, or the link began, by the loop's clock

    def send(self, packet: bytes) -> None:
        """Hand over one packet of 1 to 1343 bytes; `flush` sends it at the latest."""
        ...

    def flush(self) -> int:
        """Send what was handed over. Returns how many packets, the last ones, the carrier refused."""
        ...

    def close(self, farewell: bytes = b"") -> None:
        """End the link and free everything. The owner is not called any more.

        A packet `farewell` is sent first, more than once, until the peer ends the link, too. Without it
        the link ends at once.
        """
        ...

    def fail(self, reason: LinkEnd) -> None:
        """End the link at once, and tell the owner. The peer is not told."""
        ...
