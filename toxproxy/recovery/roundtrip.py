"""The round trip of the path, smoothed (RFC 9002, section 5)."""

from __future__ import annotations

_LEAST = 0.0001  # seconds
_UNKNOWN = 0.1  # seconds: before the first measurement; a probe is sent after three times as long
_SPAN = 10.0  # seconds that a minimum counts, at least


class RoundTrip:
    """Estimates in seconds. `least` is the minimum of the last `_SPAN` to twice as many seconds."""

    def __init__(self) -> None:
        self.known = False
        self.latest = self.smoothed = _UNKNOWN
        self.variation = _UNKNOWN / 2
        self.least = _UNKNOWN
        self._before = self._current = _UNKNOWN  # minima of the span before this one, and of this one
        self._began = 0.0

    def add(self, sample: float, now: float) -> None:
        """A new measurement."""
        sample = max(sample, _LEAST)
        self.latest = sample
        if not self.known:
            self.known = True
            self.smoothed, self.variation = sample, sample / 2
            self._before = self._current = sample
            self._began = now
        else:
            self.variation += (abs(self.smoothed - sample) - self.variation) / 4
            self.smoothed += (sample - self.smoothed) / 8
            if now - self._began >= _SPAN:
                self._before, self._current = self._current, sample
                self._began = now
            elif sample < self._current:
                self._current = sample
        self.least = min(self._before, self._current)

    @property
    def patience(self) -> float:
        """After how many seconds without an acknowledgement a probe is sent; `Recovery` adds to it."""
        return self.smoothed + max(4 * self.variation, 0.01) + 0.01
