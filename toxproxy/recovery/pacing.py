"""When packets may leave: a token bucket, so that a window does not leave at once."""

from __future__ import annotations

from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE

_PACKET = PACKET_SIZE + OVERHEAD
BURST_PACKETS = 8  # may leave at once, after a pause …
BURST_SECONDS = 0.002  # … or what leaves in this time: an event loop is late by as much
SHORTEST_WAIT = 0.001  # seconds: waking an event loop up for each packet costs more than it gives


class Pacer:
    """Bytes that may leave now, which grow with time. One packet may be more than is left."""

    __slots__ = ("_at", "_burst", "_rate", "tokens")

    def __init__(self, now: float, rate: float) -> None:
        self._at = now
        self._rate = rate
        self._burst = self.tokens = max(BURST_PACKETS * _PACKET, BURST_SECONDS * rate)

    def allows(self, now: float) -> bool:
        """Whether a packet may leave now. The owner takes its bytes from `tokens`."""
        if now > self._at:
            tokens = self.tokens + (now - self._at) * self._rate
            self.tokens = tokens if tokens < self._burst else self._burst
            self._at = now
        return self.tokens > 0

    def wait(self, now: float) -> float:
        """Seconds until a packet may leave; 0 if it may now."""
        return 0.0 if self.allows(now) else max(-self.tokens / self._rate, SHORTEST_WAIT)

    def set_rate(self, now: float, rate: float) -> None:
        """`rate` bytes per second from now on, more than 0."""
        self.allows(now)
        self._rate = rate
        self._burst = max(BURST_PACKETS * _PACKET, BURST_SECONDS * rate)
