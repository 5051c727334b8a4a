"""How much memory and how many streams a session may use: for its peer, and for itself."""

from __future__ import annotations

from dataclasses import dataclass, field

TURN, _LEAST_TURN = 64, 8  # packets, divided among those who send much; the least is the pacer's own burst
_SPAN = 0.1  # seconds for which a session is one of them, at least
_SHARES = 32  # a new stream gets at most one of so many parts of what is left for new ones


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


class Turns:
    """Lets the sessions of a process send in turn, when several have much to send.

    The processor is what they share then. A session whose pace was found while it was alone would keep most
    of it: its pace allows more in each turn of the event loop than that of the others, who cannot find more.
    """

    def __init__(self) -> None:
        self._began = 0.0  # when the present span did
        self._now: set[object] = set()  # those who sent much in it …
        self._before: set[object] = set()  # … and in the one before

    def most(self, session: object, now: float) -> int:
        """How many packets `session` may send before others get their turn: `TURN` if there are none."""
        if now - self._began > _SPAN:
            self._before = self._now if now - self._began < 2 * _SPAN else set()
            self._began, self._now = now, set()
        return max(_LEAST_TURN, TURN // len(self._now | self._before | {session}))

    def sent(self, session: object, packets: int) -> None:
        """`session` has sent so many."""
        if packets >= _LEAST_TURN:
            self._now.add(session)


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
    `turns`: who of all sessions of the process may send how much at once.
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
    turns: Turns = field(default_factory=Turns, compare=False)
    streams: int = 8192
    flows: int = 1024
    flow_idle: float = 120.0


class Allotment:
    """Divides the memory of a session, and of the process's `Pool`, among the streams' windows.

    A new stream gets `limits.window` bytes, or less when little is left: half of the memory is for new
    streams, the other half for streams whose readers keep up. On a path that loses packets a window must
    be a few times what is in flight; otherwise each packet that is lost twice stops the stream.

    All windows together exceed `limits.session_window`, and those of all sessions `limits.pool`, by at
    most `limits.least_window` for each stream. What was written to streams counts too, until the peer has
    acknowledged it; `share` bounds what waits to be sent. Once nothing is `left`, no more is sent.
    """

    def __init__(self, limits: Limits) -> None:
        self.taken = 0
        self._limits = limits
        self._pool = limits.pool

    @property
    def left(self) -> int:
        """How many bytes are left; 0 or less if none are."""
        return min(self._limits.session_window - self.taken, self._pool.left)

    def first(self) -> int:
        """The size of a new stream's window, in bytes."""
        limits, pool = self._limits, self._pool
        for_new = min(limits.session_window // 2 - self.taken, pool.size // 2 - pool.taken)
        return min(limits.window, max(limits.least_window, for_new // _SHARES))

    def wider(self, size: int) -> int:
        """The next size of a window, in bytes: four times its `size` if memory is left for that."""
        wider = min(4 * size, self._limits.most_window)
        return wider if 0 < wider - size <= self.left else size

    def hold(self, size: int) -> None:
        """Take `size` bytes; a negative size returns them."""
        self.taken += size
        self._pool.taken += size

    def share(self, least: int, most: int) -> int:
        """How many bytes one buffer may hold now, between `least` and `most`."""
        return max(least, min(most, self.left // _SHARES))

    def end(self) -> None:
        """The session has ended: return all its memory to the pool, and take no more from it."""
        self._pool.taken -= self.taken
        self.taken = 0
        self._pool = Pool(self._pool.size)
