"""How fast the streams and flows of one peer go, all together, and how much they carry.

Bytes are those of streams and datagrams, before compression. There is one `Gate` for each direction: a
token bucket, and the streams that wait for it. Nothing is dropped of a stream. What this side would send is
not read from its source; what the peer sends is not taken, so it gets no credit. Datagrams cannot wait and
are dropped.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf

from toxproxy.timer import Timer

_SAVED = 0.25  # seconds of the rate that a gate saves, for what comes after a pause …
_LEAST_SAVED = 16 * 1024  # … and bytes at least
_SMALL = 1024  # bytes: so little of a stream uses all that is saved; more leaves half of it
_SHARE = 4096  # bytes that one stream passes at least when its turn comes
_LEAD = 16 * 1024  # bytes of datagrams more than of streams, while streams wait
_UNLIMITED = 1 << 62  # bytes: what a gate without a limit has saved


Again = Callable[[], None]


class Gate:
    """What goes in one direction: some rate of bytes a second, or whatever comes.

    Half of what it saves is for small pieces, so that a keystroke does not wait behind a download. Streams
    that wait take turns, with equal shares. Datagrams go first, as long as they do not take more than
    streams that wait. A stream is known by what is to be called when its turn comes.
    """

    def __init__(self) -> None:
        self.used: Callable[[int], None] = lambda size: None  # is told of each byte that passes
        # In turn: small pieces, others.
        self._waiting = OrderedDict[Again, None](), OrderedDict[Again, None]()
        self._timer = Timer(self._ring)
        self._lead = 0
        self.limit(None)

    def limit(self, rate: int | None) -> None:
        """Set another rate, in bytes a second; None is none. Streams that wait go on.

        `window` is then how many bytes a stream may send before this side lets the first of them pass.
        """
        self._rate = rate or 0
        self.window = _UNLIMITED if rate is None else max(int(rate * _SAVED), _LEAST_SAVED)
        self._levels = 0, self.window / 2  # that must be left for small pieces, and for others
        self._left: float = self.window  # bytes that may pass; below 0 after a piece that was larger
        self._at = -inf
        self._shares: dict[Again, int] = {}  # what is left of the shares of those whose turn it is
        self._timer.stop()
        waiting = [*self._waiting[0], *self._waiting[1]]
        for queue in self._waiting:
            queue.clear()
        for stream in waiting:
            stream()

    def room(self, size: int, stream: Again) -> int:
        """How many of `size` bytes of one stream may pass now; 0 if it has to wait."""
        self._refill()
        spare = self._left - self._levels[size > _SMALL]
        if spare <= 0:
            return 0
        if size <= _SMALL:
            return size
        return min(size, self._shares.get(stream, max(_SHARE, int(spare) // (1 + len(self._waiting[1])))))

    def passed(self, size: int, stream: Again) -> None:
        """So many bytes of a stream have passed."""
        self.used(size)
        self._left -= size
        if any(self._waiting) or stream in self._shares:
            self._shares[stream] = max(self._shares.get(stream, 0) - size, 0)
        self._lead = max(self._lead - size, 0)

    def takes(self, datagram: bytes) -> bool:
        """Whether a datagram may pass; if so, it has, and else it is dropped."""
        self._refill()
        if self._left <= 0 or (any(self._waiting) and self._lead >= _LEAD):
            return False
        self.used(len(datagram))
        self._left -= len(datagram)
        self._lead = min(self._lead + len(datagram), _LEAD)
        return True

    def wait(self, size: int, stream: Again) -> None:
        """Have a stream called, once, when it is its turn. So many bytes of it wait."""
        self._waiting[size > _SMALL].setdefault(stream)
        self._arm()

    def _refill(self) -> None:
        if self._rate:
            now = asyncio.get_running_loop().time()
            self._left = min(self.window, self._left + (now - self._at) * self._rate)
            self._at = now

    def _ring(self) -> None:
        """It is the turn of the first ones: of as many as there are shares for."""
        self._refill()
        left, turns = self._left, []
        for queue, level in zip(self._waiting, self._levels, strict=True):
            while queue and left > level:
                left -= _SHARE
                turns.append(queue.popitem(last=False)[0])
        share = max(_SHARE, int(self._left - self._levels[1]) // max(1, len(turns)))
        self._shares = dict.fromkeys(turns, share)
        for stream in turns:
            stream()
        self._arm()

    def _arm(self) -> None:
        if any(self._waiting):
            lacking = self._levels[not self._waiting[0]] + min(_SHARE, self.window / 4) - self._left
            self._timer.set_at(self._at + max(lacking / self._rate, 0.001))


class Meter:
    """What one peer may carry, in all of its sessions. At a client, and by itself, nothing is held up."""

    def __init__(self) -> None:
        self.down = Gate()  # what this side sends
        self.up = Gate()  # what the peer sends

    def limit(self, down: int | None, up: int | None) -> None:
        """Set other rates; see `Gate`."""
        self.down.limit(down)
        self.up.limit(up)

    def tell(self, used: Callable[[int], None]) -> None:
        """Tell of each byte that is carried."""
        self.down.used = self.up.used = used
