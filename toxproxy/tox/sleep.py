"""Whether this process did nothing for a while: it was stopped, or the machine slept."""

from __future__ import annotations

import time

# Linux's clock that goes on while the machine sleeps. Elsewhere only a process that was stopped is noticed.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_LATE = 4.0  # seconds


class Sleep:
    """Is asked, at least every second while the process runs."""

    def __init__(self) -> None:
        self._asked = time.clock_gettime(_CLOCK)

    def slept(self) -> float | None:
        """The seconds since the last call, if this process cannot have run all the time; else None."""
        before, self._asked = self._asked, time.clock_gettime(_CLOCK)
        return self._asked - before if self._asked - before > _LATE else None
