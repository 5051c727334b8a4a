"""When packets may leave: a token bucket, so that a window does not leave at once.

An event loop that is late loses tokens, since the bucket is small: a burst would overflow a small buffer
on the path. What it loses is saved, up to a limit, and comes back slowly, so that the mean rate is kept.
"""

from __future__ import annotations

from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE

_PACKET = PACKET_SIZE + OVERHEAD
BURST_PACKETS = 8  # may leave at once, after a pause …
BURST_SECONDS = 0.002  # … or what leaves in this time: an event loop is late by as much
SHORTEST_WAIT = 0.001  # seconds: waking an event loop up for each packet costs more than it gives
_SAVED_SECONDS, _BACK = 0.02, 0.25  # of the pace: what is saved at most, and how fast it comes back


class Pacer:
    """Bytes that may leave now, which grow with time. One packet may be more than is left."""

    def __init__(self, now: float, rate: float) -> None:
        self._at = now
        self._rate = rate
        self._saved = 0.0
        self._burst = self.tokens = max(BURST_PACKETS * _PACKET, BURST_SECONDS * rate)

    def allows(self, now: float) -> bool:
        """Whether a packet may leave now. The owner takes its bytes from `tokens`."""
        if now > self._at:
            new = (now - self._at) * self._rate
            back = min(self._saved, _BACK * new)
            tokens = self.tokens + new + back
            self._saved -= back
            if tokens > self._burst:
                self._saved = min(self._saved + tokens - self._burst, _SAVED_SECONDS * self._rate)
                tokens = self._burst
            self.tokens = tokens
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
