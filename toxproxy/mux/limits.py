"""What a side allows its peer, as it says in HELLO, and what it never exceeds itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one session, in one direction: what the peer may make this side hold.

    `early_window`: bytes that may follow an OPEN before it is answered.
    `window`: bytes that a stream may send at first, ahead of what the application took.
    `most_window`: to which that grows while the application keeps up and the path needs it.
    `session_window`: of all streams together, beyond `least_window` for each.
    `streams`: streams that the peer may have open at once.

    What compression needs comes on top: `compression.HISTORY` bytes for each direction of a stream
    that is compressed.
    """

    early_window: int = 16 * 1024
    least_window: int = 16 * 1024
    window: int = 1024 * 1024
    most_window: int = 8 * 1024 * 1024
    session_window: int = 64 * 1024 * 1024
    streams: int = 8192
