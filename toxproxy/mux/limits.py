"""How much memory and how many streams a session may use: for its peer, and for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from toxproxy.patience import Patience


class Pool:
    """Bytes that the sessions of a process share: for windows of streams, and for data kept for a peer."""

    __slots__ = ("_size", "left")

    def __init__(self, size: int) -> None:
        self.left = self._size = size

    @property
    def for_new(self) -> int:
        """Bytes that new streams may share. Half of the pool is for streams whose readers keep up."""
        return max(0, self.left - self._size // 2)

    def resize(self, size: int) -> None:
        """Make it larger or smaller. What was taken stays taken, so `left` may be below 0 for a while."""
        self.left += size - self._size
        self._size = size


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one session, on one side.

    Windows are in bytes, and each is of one direction of a stream, at its receiver:

    `early_window`: how much may follow an OPEN before it is answered.
    `window`: how much a new stream's peer may send ahead of what the application has taken.
    `least_window`: how much a new stream gets in any case, however little memory is left.
    `most_window`: to which a window grows while the application keeps up and the path needs it.
    `session_window`: for all windows, and for all bytes that were written and not acknowledged, together.
    Each stream may add `least_window` and `sender.LEAST_BUFFER` to it.
    `pool`: the same for all sessions of the process together; None is without a bound.
    `streams`: how many streams the peer may have open at once.
    `flows`: how many of these may be flows of datagrams.
    `patience`: for how long a stream that the peer opened may be silent. `Session` enforces it.

    Compression needs `compression.HISTORY` bytes more for each direction of a compressed stream.
    """

    early_window: int = 16 * 1024
    least_window: int = 16 * 1024
    window: int = 1024 * 1024
    most_window: int = 8 * 1024 * 1024
    session_window: int = 64 * 1024 * 1024
    pool: Pool | None = field(default=None, compare=False)
    streams: int = 8192
    flows: int = 1024
    patience: Patience = field(default_factory=Patience)
