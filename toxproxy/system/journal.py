"""Whether a stream is the system's journal, which knows the time itself and takes a level from each line."""

from __future__ import annotations

import os
from typing import TextIO


def leads_to(stream: TextIO) -> bool:
    """Whether what is written to `stream` goes to the journal (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # ValueError: it has no descriptor
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
