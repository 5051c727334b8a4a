"""Where the audit goes, by [log] of the configuration."""

from __future__ import annotations

import logging

from toxproxy.audit.file import AuditFile
from toxproxy.audit.record import Record, json_line, text_line
from toxproxy.config.settings import TO_THE_LOG, AuditFormat, LogSettings

log = logging.getLogger(__name__)


class Ledger:
    """Writes records where `settings` say: nowhere, to the log, or to a file, which it opens.

    Raises `ToxproxyError` for a file that cannot be opened.
    """

    def __init__(self, settings: LogSettings) -> None:
        self._line = json_line if settings.audit_format is AuditFormat.JSON else text_line
        self._to_the_log = settings.audit == TO_THE_LOG
        self._file: AuditFile | None = None
        if settings.audit is not None and not self._to_the_log:
            self._file = AuditFile(settings.audit, settings.audit_size)

    def write(self, record: Record) -> None:
        """Write a record."""
        if self._file is not None:
            self._file.write(self._line(record))
        elif self._to_the_log:
            log.info("%s", self._line(record))

    @property
    def lost(self) -> int:
        """Lines that could not be written, since the last one that was."""
        return 0 if self._file is None else self._file.lost

    def close(self) -> None:
        """Close the file. Nothing is written after that."""
        if self._file is not None:
            self._file.close()
            self._file = None
