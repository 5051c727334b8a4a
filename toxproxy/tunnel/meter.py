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

from toxproxy.timer import Timer

_SAVED = 0.25  # seconds of the rate that a gate saves, for what comes after a pause …
_LEAST_SAVED = 16 * 1024  # … and bytes at least
_SMALL = 1024  # bytes: so little of a stream uses all that is saved; more leaves half of it
_SHARE = 4096  # bytes that one stream passes at least when its turn comes
_LEAD = 16 * 1024  # bytes of datagrams more than of streams, while streams wait


Again = Callable[[], None]


class Gate:
    """Lets `rate` bytes pass in a second. Made in a running loop.

    Half of what it saves is for small pieces, so that a keystroke does not wait behind a download. Streams
    that wait take turns, with equal shares. Datagrams go first, as long as they do not take more than
    streams that wait. A stream is known by what is to be called when its turn comes.
    """

    def __init__(self, rate: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._most = max(int(rate * _SAVED), _LEAST_SAVED)
        self._left: float = self._most  # bytes that may pass; below 0 after a piece that was larger
        self._at = self._loop.time()
        self._waiting = (
            OrderedDict[Again, None](),
            OrderedDict[Again, None](),
        )  # in turn: small pieces, others
        self._shares: dict[Again, int] = {}  # what is left of the shares of those whose turn it is
        self._timer = Timer(self._ring)
        self._lead = 0

    @property
    def window(self) -> int:
        """How many bytes a stream may send at first before this side lets the first of them pass."""
        return self._most

    def room(self, size: int, stream: Again) -> int:
        """How many of `size` bytes of one stream may pass now; 0 if it has to wait."""
        self._refill()
        spare = self._left - self._level(size)
        if spare <= 0:
            return 0
        if size <= _SMALL:
            return size
        return min(size, self._shares.get(stream, max(_SHARE, int(spare) // (1 + len(self._waiting[1])))))

    def passed(self, size: int, stream: Again) -> None:
        """So many bytes of a stream have passed."""
        self._left -= size
        if any(self._waiting) or stream in self._shares:
            self._shares[stream] = max(self._shares.get(stream, 0) - size, 0)
        self._lead = max(self._lead - size, 0)

    def lets_datagram(self, size: int) -> bool:
        """Whether a datagram may pass; if so, it has."""
        self._refill()
        if self._left <= 0 or (any(self._waiting) and self._lead >= _LEAD):
            return False
        self._left -= size
        self._lead = min(self._lead + size, _LEAD)
        return True

    def wait(self, size: int, stream: Again) -> None:
        """Have a stream called, once, when it is its turn. So many bytes of it wait."""
        self._waiting[size > _SMALL].setdefault(stream)
        self._arm()

    def open(self) -> None:
        """The gate is not needed any more: let go all who wait."""
        self._timer.stop()
        waiting = [stream for queue in self._waiting for stream in queue]
        for queue in self._waiting:
            queue.clear()
        for stream in waiting:
            stream()

    def _level(self, size: int) -> float:
        return 0.0 if size <= _SMALL else self._most / 2

    def _refill(self) -> None:
        now = self._loop.time()
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now

    def _ring(self) -> None:
        """It is the turn of the first ones: of as many as there are shares for."""
        self._refill()
        left, turns = self._left, []
        for queue, level in zip(self._waiting, (0, self._most / 2), strict=True):
            while queue and left > level:
                left -= _SHARE
                turns.append(queue.popitem(last=False)[0])
        share = max(_SHARE, int(self._left - self._most / 2) // max(1, len(turns)))
        self._shares = dict.fromkeys(turns, share)
        for stream in turns:
            stream()
        self._arm()

    def _arm(self) -> None:
        if any(self._waiting):
            level = 0 if self._waiting[0] else self._most / 2
            lacking = level + min(_SHARE, self._most / 4) - self._left
            self._timer.set_at(self._at + max(lacking / self._rate, 0.001))


class Meter:
    """What one peer may carry, in all of its sessions. `used` is told of each byte, until it is None.

    At a client, and at a server without a limit for this client, nothing is held up.
    """

    def __init__(self) -> None:
        self.down: Gate | None = None  # what this side sends
        self.up: Gate | None = None  # what the peer sends
        self.used: Callable[[int], None] | None = None

    def limit(self, down: int | None, up: int | None) -> None:
        """Set other rates, in bytes a second; None is none. Streams that wait go on."""
        before = self.down, self.up
        self.down = Gate(down) if down is not None else None
        self.up = Gate(up) if up is not None else None
        for gate in before:
            if gate is not None:
                gate.open()

    def sent(self, size: int, stream: Again) -> None:
        """A stream has sent so many bytes."""
        if self.down is not None:
            self.down.passed(size, stream)
        if self.used is not None:
            self.used(size)

    def received(self, size: int, stream: Again) -> None:
        """So many bytes of a stream of the peer's were taken."""
        if self.up is not None:
            self.up.passed(size, stream)
        if self.used is not None:
            self.used(size)

    def sends(self, datagram: bytes) -> bool:
        """Whether a datagram may be sent; if not, it is dropped."""
        return self._carries(self.down, len(datagram))

    def takes(self, datagram: bytes) -> bool:
        """Whether a datagram of the peer's is taken; if not, it is dropped."""
        return self._carries(self.up, len(datagram))

    def _carries(self, gate: Gate | None, size: int) -> bool:
        if gate is not None and not gate.lets_datagram(size):
            return False
        if self.used is not None:
            self.used(size)
        return True
