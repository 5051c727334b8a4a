"""Processes that this one starts, and how they are asked to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

#: Options of a child that Ctrl-C in this process's terminal does not reach. `end` does.
APART: dict[str, Any] = {}

if sys.platform == "win32":
    APART["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP  # Ctrl-C does nothing there, Ctrl-Break does
else:
    APART["start_new_session"] = True


def end(pid: int) -> None:
    """Ask a child that was started with `APART` to end. Raises `ProcessLookupError`."""
    if sys.platform == "win32":
        os.kill(pid, signal.CTRL_BREAK_EVENT)
    else:
        os.kill(pid, signal.SIGTERM)
