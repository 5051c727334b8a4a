"""The terminal that this process was started from."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TextIO

if sys.platform == "win32":
    import msvcrt

_TAKES_SEQUENCES = 0x0004  # ENABLE_VIRTUAL_TERMINAL_PROCESSING of SetConsoleMode


def attached() -> bool:
    """Whether there is a controlling terminal. A service has none; one that was closed is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | getattr(os, "O_NOCTTY", 0)))
    except OSError:
        return False
    return True


def controllable(stream: TextIO) -> bool:
    """Whether `stream` is a terminal that takes control sequences (ECMA-48)."""
    if not stream.isatty():
        return False
    if sys.platform == "win32":
        console = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
        mode = ctypes.c_ulong()
        system = ctypes.windll.kernel32
        known = system.GetConsoleMode(console, ctypes.byref(mode))
        return bool(known and system.SetConsoleMode(console, mode.value | _TAKES_SEQUENCES))
    else:
        return os.environ.get("TERM", "dumb") != "dumb"
