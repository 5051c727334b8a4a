"""Flow control of one direction of a stream, at the receiver.

Offsets count the bytes of the direction from its start; its end (FIN) takes one more. Credit
is given for what the application consumed, not for what arrived, so a reader that stops costs
one window and stops its own writer only. (The idea is QUIC's, RFC 9000 section 4.1.)
"""

from __future__ import annotations

from toxproxy.errors import LocalProtocolError, RemoteProtocolError
from toxproxy.mux.limits import Limits, Pool

_SHARES = 32  # a new stream gets at most this part of what is left for new ones
_UNBOUNDED = 1 << 62  # bytes


class ReceiveWindow:
    """Counts what came and what was consumed, and says when the peer is due more credit.

    `limit` never falls. `size` is how far it should stay ahead of what was consumed, in bytes.
    """

    __slots__ = ("consumed", "limit", "received", "size", "widened_at")

    def __init__(self, size: int) -> None:
        self.size = size
        self.limit = size
        self.received = 0
        self.consumed = 0
        self.widened_at = 0  # the limit that the peer is to reach before the window grows again

    def receive(self, offset: int, length: int) -> None:
        """Take `length` bytes that start at `offset`.

        Raises `RemoteProtocolError` for a gap, a repetition or an overrun of the credit given.
        """
        if offset != self.received:
            raise RemoteProtocolError(f"stream data at offset {offset}, expected {self.received}")
        if offset + length > self.limit:
            raise RemoteProtocolError(f"stream data up to {offset + length}, credit was {self.limit}")
        self.received += length

    def consume(self, length: int) -> None:
        """The application took `length` more bytes. Raises `LocalProtocolError` beyond what came."""
        if self.consumed + length > self.received:
            raise LocalProtocolError("more consumed than was received")
        self.consumed += length

    @property
    def due(self) -> bool:
        """Whether a quarter of the window or more could be given back."""
        return 4 * (self.consumed + self.size - self.limit) >= self.size

    @property
    def is_kept_up_with(self) -> bool:
        """Whether the application has taken nearly everything that came."""
        return 4 * (self.received - self.consumed) <= self.size

    def grant(self) -> int:
        """Move the limit ahead and return it."""
        self.limit = max(self.limit, self.consumed + self.size)
        return self.limit


class Allotment:
    """Shares out a session's memory, and that of all sessions, among the windows of its streams.

    A stream gets `limits.window` at first, less when little is left of the half that is for new
    ones, and four times as much each time it holds up the path rather than the application: on a path
    that loses packets it takes a few times what is on the way, or every packet lost twice stops the
    stream. So streams that nobody reads leave the other half to those that are read. Windows together
    exceed `limits.session_window`, and those of all sessions `limits.pool`, by at most
    `limits.least_window` a stream.

    What waits to be sent is counted with `hold` as well, and has its bound from `share`.
    """

    __slots__ = ("_limits", "_most_kept", "_own", "_shared", "kept")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._own = Pool(limits.session_window)
        self._shared = limits.pool or Pool(_UNBOUNDED)
        self._most_kept = limits.session_window // 2
        self.kept = 0  # bytes until the peer acknowledges them

    def first(self) -> int:
        """The size of a new stream's window."""
        limits = self._limits
        left = min(self._own.for_new, self._shared.for_new)
        size = min(limits.window, max(limits.least_window, left // _SHARES))
        self.hold(size)
        return size

    def widen(self, window: ReceiveWindow) -> None:
        """Make a window four times as large, if there is memory left for that."""
        more = min(3 * window.size, self._limits.most_window - window.size)
        if 0 < more <= min(self._own.left, self._shared.left):
            self.hold(more)
            window.size += more
            window.widened_at = window.consumed + window.size

    def give_back(self, window: ReceiveWindow) -> None:
        """The stream is over."""
        self.hold(-window.size)

    def hold(self, size: int) -> None:
        """So many bytes more, or less, are taken."""
        self._own.left -= size
        self._shared.left -= size

    def share(self, least: int, most: int) -> int:
        """How many bytes one of those who hold some may have, from `least` to `most`."""
        return max(least, min(most, self._own.left // _SHARES, self._shared.left // _SHARES))

    def keep(self, size: int) -> None:
        """So many bytes more, or less, are kept until the peer acknowledges them.

        They have half the session's memory for themselves, and count among those of all sessions.
        """
        self.kept += size
        self._shared.left -= size

    def may_keep(self, least: int, most: int) -> int:
        """How many bytes more may be kept, where `least` are always allowed and `most` never exceeded."""
        bound = min(most, max(least, self._most_kept)) - self.kept
        return min(bound, max(least - self.kept, self._shared.left))

    def end(self) -> None:
        """The session is over: everything goes back to the others, and no more is taken."""
        self._shared.left += self._limits.session_window - self._own.left + self.kept
        self._shared = Pool(_UNBOUNDED)
