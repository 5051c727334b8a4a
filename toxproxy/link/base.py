"""What a link, `EnetLink`, tells its owner, a session.

A link carries packets of 1 to `PACKET_SIZE` bytes. It loses some, repeats some and changes their order,
and knows nothing of their contents: recovery is above it. A link is disposable; a session lives through
many.
"""

from __future__ import annotations

from enum import Enum


class LinkEnd(Enum):
    """Why a link ended, as people are told."""

    PEER_ENDED = "the peer ended the link"  # or refused the connection
    UNANSWERED = "the peer did not answer in time"  # so the link never came up
    SILENT = "nothing came from the peer for ten seconds, not even answers to pings"
    ASLEEP = "this machine was asleep, and the peer will have given the link up"
    REPLACED = "a new link replaced it"
    UNREACHABLE = "the friend left the network"  # as Tox says
    FAILED = "the link failed on this side"  # a socket or ENet


class LinkOwner:
    """Is told what happens on the link. Calls come from the event loop, never from within its own calls.

    By itself it does not listen.
    """

    def link_up(self) -> None:
        """The link is connected: packets may be sent."""

    def packet_received(self, packet: bytes) -> None:
        """One packet came."""

    def link_ready(self) -> None:
        """A batch of datagrams was handled. Packets were passed on if there were any in it."""

    def link_down(self, reason: LinkEnd) -> None:
        """The link has ended. This is its last call."""
