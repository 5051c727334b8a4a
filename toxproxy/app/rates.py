"""How fast counters grew in the last seconds, measured when somebody asks: nothing runs meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Set

SPAN = 5.0  # seconds over which a rate is measured, at most
LEAST = 0.4  # seconds that two samples must be apart
_MOST = 64  # samples

Counters = Mapping[bytes, tuple[int, int]]  # sent and received, by key


class Rates:
    """Remembers samples of the last `SPAN` seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Counters]] = deque(maxlen=_MOST)

    def note(self, now: float, counters: Counters) -> None:
        """A sample."""
        while self._samples and now - self._samples[0][0] > SPAN:
            self._samples.popleft()
        if not self._samples or now - self._samples[-1][0] >= LEAST / 4:
            self._samples.append((now, counters))

    def ready(self, now: float, keys: Set[bytes]) -> bool:
        """Whether the rates of all `keys` can be measured against a sample."""
        samples = [before for at, before in self._samples if LEAST <= now - at <= SPAN]
        return all(any(key in before for before in samples) for key in keys)

    def of(self, key: bytes, now: float, counters: tuple[int, int]) -> tuple[float, float] | None:
        """Bytes a second, sent and received, until now; None where there is no sample to compare with."""
        for at, before in self._samples:
            if LEAST <= now - at <= SPAN and key in before:
                seconds = now - at
                sent, received = (max(0, new - old) for new, old in zip(counters, before[key], strict=True))
                return round(sent / seconds, 1), round(received / seconds, 1)
        return None
