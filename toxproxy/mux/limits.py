"""How much memory and how many streams a session may use: for its peer, and for itself."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Pool:
    """Bytes that the sessions of a process share: for windows of streams, and for data kept for a peer.

    When `size` is lowered, what was taken stays taken, so `left` may be below 0 for a while.
    """

    size: int
    taken: int = 0

    @property
    def left(self) -> int:
        return self.size - self.taken


@dataclass(slots=True)
class Limits:
    """The bounds of a session, on one side. One object may bound many.

    They may change at any time, and count for what is opened next; living streams keep their windows. A
    peer knows the `streams` of HELLO. It is refused more than there are now, but never asks for more than
    it knows of.

    Windows are in bytes, and each is of one direction of a stream, at its receiver:

    `early_window`: how much may follow an OPEN before it is answered.
    `window`: how much a new stream's peer may send ahead of what the application has taken.
    `least_window`: how much a new stream gets in any case, however little memory is left.
    `most_window`: to which a window grows while the application keeps up and the path needs it.
    `session_window`: for all windows, and for all bytes that were written and not acknowledged, together.
    Each stream may add `least_window` and `sender.LEAST_BUFFER` to it.
    `pool`: the same for all sessions of the process together.
    `streams`: how many streams the peer may have open at once.
    `flows`: how many of these may be flows of datagrams. `flow_idle`: for how many seconds one of them may
    be silent; 0 is without limit. `FlowTransport` enforces it.

    Compression needs `compression.HISTORY` bytes more for each direction of a compressed stream.
    """

    early_window: int = 16 * 1024
    least_window: int = 16 * 1024
    window: int = 1024 * 1024
    most_window: int = 8 * 1024 * 1024
    session_window: int = 64 * 1024 * 1024
    pool: Pool = field(default_factory=lambda: Pool(1 << 62), compare=False)
    streams: int = 8192
    flows: int = 1024
    flow_idle: float = 120.0
