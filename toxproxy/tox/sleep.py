"""Whether this process did nothing for a while: it was stopped, or the machine slept."""

from __future__ import annotations

from toxproxy.system import clocks

_LATE = 4.0  # seconds


class Sleep:
    """Is asked, at least every second while the process runs."""

    def __init__(self) -> None:
        self._asked = clocks.through_sleep()

    def slept(self) -> float | None:
        """The seconds since the last call, if this process cannot have run all the time; else None."""
        before, self._asked = self._asked, clocks.through_sleep()
        return self._asked - before if self._asked - before > _LATE else None
