"""The last lines of the log."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass

from toxproxy.program.logs import escaped

MOST = 300  # lines
_LONGEST = 1000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One record. `number` counts from 1 since the program began."""

    number: int
    unix_s: float
    level: str  # debug, info, warning, error or critical
    text: str


class Journal(logging.Handler):
    """Keeps the last `MOST` lines. Control characters in them are escaped."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[Line] = deque(maxlen=MOST)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        self._count += 1
        text = escaped(record.getMessage()[:_LONGEST])
        line = Line(
            number=self._count, unix_s=round(record.created, 3), level=record.levelname.lower(), text=text
        )
        self._lines.append(line)

    def since(self, number: int) -> list[Line]:
        """The lines after that one."""
        return [line for line in self._lines if line.number > number]
