"""The terminal that this process was started from."""

from __future__ import annotations

import os


def attached() -> bool:
    """Whether there is a controlling terminal. A service has none; one that was closed is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
