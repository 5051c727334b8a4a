"""What a side allows its peer, as it says in HELLO, and what it never exceeds itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one session, in one direction: what the peer may make this side hold.

    `early_window`: bytes that may follow an OPEN before it is answered.
    `window`: bytes in flight towards the application of each stream after that.
    `streams`: streams that the peer may have open at once.
    """

    early_window: int = 64 * 1024
    window: int = 256 * 1024
    streams: int = 8192
