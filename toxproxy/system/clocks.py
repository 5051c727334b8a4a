"""Clocks: a fine one, and one that goes on while the machine sleeps."""

from __future__ import annotations

import sys
import time

# Windows' clock behind time.monotonic has steps of 15.6 ms up to Python 3.12: longer than a round trip.
if sys.platform == "win32":
    from time import perf_counter as monotonic
else:
    from time import monotonic

__all__ = ["monotonic", "through_sleep"]

# Linux has a clock for this. macOS's CLOCK_MONOTONIC is one (clock_gettime(3) there).
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def through_sleep() -> float:
    """Seconds since some moment, those of a sleep included."""
    if sys.platform == "win32" or _CLOCK is None:
        return time.monotonic()  # either clock of Windows that Python takes goes on
    return time.clock_gettime(_CLOCK)
