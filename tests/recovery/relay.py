"""A TCP relay in virtual time, as tox-bootstrapd is one.

It looks at its sockets now and then, and drops what the socket to the other end does not take.

Linux makes the buffer of a socket larger only after it was found full (`tcp_new_space` in tcp_input.c).
"""

from __future__ import annotations

from collections import deque

from tests.recovery.path import Direction, Way

_SEGMENT, _MEMORY = 1448, 2304  # bytes of a full segment; what it takes of the buffer
_HEADERS = 40  # of libtoxcore and the relay, for each packet
_FIRST_WINDOW, _BUFFER_WINDOWS = 10, 2  # segments; of the window, as Linux does for cubic


class RelayDirection(Direction):
    """Two TCP connections of `way.delay` each way, and a relay between them.

    `way.rate` is that of the first one. The relay looks every `pause` seconds, and up to `more` later.
    """

    def __init__(self, way: Way, pause: float, more: float, seed: int) -> None:
        super().__init__(way, seed)
        self._pause, self._more = pause, more
        self._sent_until = self._look = self._left = 0.0
        self._window, self._buffer = _FIRST_WINDOW, _MEMORY * _FIRST_WINDOW * _BUFFER_WINDOWS
        self._flight: deque[tuple[float, int]] = deque()  # when each packet is acknowledged, and its size
        self._held = 0  # bytes of them
        self._was_full = False

    def carry(self, now: float, size: int) -> float | None:
        size += _HEADERS
        self.sent_bytes += size
        self._sent_until = max(self._sent_until, now) + size / self.way.rate
        while self._look < self._sent_until + self.way.delay:
            self._look += self._pause + self._more * self._random.random()
        self._acknowledge(self._look)
        if self._held * _MEMORY >= self._buffer * _SEGMENT:
            self._was_full = True
            self.dropped_bytes += size
            return None
        self._left = max(self._left, self._look, self._room_at(size))
        self._held += size
        self._flight.append((self._left + 2 * self.way.delay, size))
        return self._left + self.way.delay

    def _room_at(self, size: int) -> float:
        """When the window lets a packet out."""
        over = self._held + size - self._window * _SEGMENT
        at = 0.0
        for acknowledged, length in self._flight:
            if over <= 0:
                break
            at, over = acknowledged, over - length
        return at

    def _acknowledge(self, until: float) -> None:
        while self._flight and self._flight[0][0] <= until:
            if 2 * self._held >= self._window * _SEGMENT:  # slow start, while the window is used
                self._window += 1
            self._held -= self._flight.popleft()[1]
            if self._was_full and self._held < self._window * _SEGMENT:
                self._buffer = max(self._buffer, _MEMORY * self._window * _BUFFER_WINDOWS)
                self._was_full = False
