"""The round trip of the path, smoothed (RFC 9002, section 5)."""

from __future__ import annotations

from math import inf

from toxproxy.recovery.delays import Least

_LEAST = 0.0001  # seconds
_UNKNOWN = 0.1  # seconds: before the first measurement


class RoundTrip:
    """Estimates in seconds."""

    def __init__(self) -> None:
        self.latest = self.smoothed = _UNKNOWN
        self.variation = _UNKNOWN / 2
        self._least = Least()

    def add(self, sample: float, now: float) -> None:
        """A new measurement."""
        self.latest = sample = max(sample, _LEAST)
        if self.known:
            self.variation += (abs(self.smoothed - sample) - self.variation) / 4
            self.smoothed += (sample - self.smoothed) / 8
        else:
            self.smoothed, self.variation = sample, sample / 2
        self._least.note(now, sample)

    @property
    def known(self) -> bool:
        """Whether there was a measurement."""
        return self._least.value < inf

    @property
    def least(self) -> float:
        """The least one of the last 10 to 20 seconds."""
        return min(self._least.value, self.latest)

    @property
    def patience(self) -> float:
        """After how many seconds without an acknowledgement a probe is sent; `Recovery` adds to it."""
        return self.smoothed + max(4 * self.variation, 0.01) + 0.01
