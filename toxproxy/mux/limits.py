"""What a side allows its peer, as it says in HELLO, and what it never exceeds itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from toxproxy.patience import Patience


class Pool:
    """Bytes that sessions share out: to the windows of their streams, and to what waits for a peer."""

    __slots__ = ("_reserve", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._reserve = size // 2

    @property
    def for_new(self) -> int:
        """What new streams may share: half of it is for those whose readers have proved themselves."""
        return max(0, self.left - self._reserve)


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one session, in one direction: what the peer may make this side hold, and how long.

    `early_window`: bytes that may follow an OPEN before it is answered.
    `window`: bytes that a stream may send at first, ahead of what the application took.
    `most_window`: to which that grows while the application keeps up and the path needs it.
    `session_window`: of all streams together, beyond `least_window` for each.
    What waits here to be sent counts as well, beyond `stream.LEAST_BUFFER` for each stream; so does half
    as much again of what the peer has not acknowledged.
    `pool`: what the sessions of this process have for all that together, if there is a bound.
    `streams`: streams that the peer may have open at once.
    `patience`: how long a stream may be silent that the peer opened; the session's owner sees to it.

    What compression needs comes on top: `compression.HISTORY` bytes for each direction of a stream
    that is compressed.
    """

    early_window: int = 16 * 1024
    least_window: int = 16 * 1024
    window: int = 1024 * 1024
    most_window: int = 8 * 1024 * 1024
    session_window: int = 64 * 1024 * 1024
    pool: Pool | None = field(default=None, compare=False)
    streams: int = 8192
    patience: Patience = field(default_factory=Patience)
