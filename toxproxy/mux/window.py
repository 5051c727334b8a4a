"""Flow control of one direction of a stream, at the receiver.

Credit is given for bytes that the application has consumed, not for bytes that arrived. So a reader that
stops holds one window of memory, and stops its own writer only. (As in QUIC, RFC 9000 section 4.1.)
"""

from __future__ import annotations

from toxproxy.mux.limits import Limits, Pool

_SHARES = 32  # a new stream gets at most one of so many parts of what is left for new ones


class ReceiveWindow:
    """Counts bytes that came, in order, and bytes that were consumed, and says when a CREDIT is due.

    The peer may send up to `limit`, which never falls. It should be `size` bytes ahead of `consumed`.

    A sender that has more to send fills its credit to the last byte. So bytes that end exactly at a limit
    show that the window may be too small for the path: it was `used_up`.
    """

    def __init__(self, size: int) -> None:
        self.limit = 0
        self.received = 0
        self.consumed = 0
        self.given: set[int] = set()  # the newest limits since the window has this size
        self.resize(size)
        self.grant()

    def resize(self, size: int) -> None:
        """Set the size. What the peer did with the former one does not count any more."""
        self.size = size
        self.given.clear()
        self.used_up = False

    @property
    def due(self) -> bool:
        """Whether a CREDIT would give back a quarter of the window or more."""
        return 4 * (self.consumed + self.size - self.limit) >= self.size

    @property
    def is_kept_up_with(self) -> bool:
        """Whether at most a quarter of the window waits for the application."""
        return 4 * (self.received - self.consumed) <= self.size

    def grant(self) -> int:
        """Raise the limit to `size` ahead of `consumed`, and return it."""
        self.limit = max(self.limit, self.consumed + self.size)
        self.given = {*sorted(self.given)[-7:], self.limit}
        return self.limit


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

    def widen(self, window: ReceiveWindow) -> None:
        """Make a window four times as large, if memory is left for that."""
        more = min(3 * window.size, self._limits.most_window - window.size)
        if 0 < more <= self.left:
            self.hold(more)
            window.resize(window.size + more)

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
        self._pool = Pool(self._pool.size)
