"""Which operating system this is."""

from __future__ import annotations

import platform


def release() -> str:
    """Its name, release and processor: `Linux 6.1.0 x86_64`. Not the machine's name."""
    system = platform.uname()
    return f"{system.system} {system.release} {system.machine}"
