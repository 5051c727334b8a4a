"""How much memory this process takes."""

from __future__ import annotations

import mmap
from pathlib import Path

_STATM = Path("/proc/self/statm")  # proc(5): the second number is pages in memory


def resident() -> int:
    """Bytes in memory now; 0 where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * mmap.PAGESIZE
    except (OSError, ValueError, IndexError):
        return 0
