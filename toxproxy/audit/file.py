"""A file that lines are added to: of bounded size, and harmless when the disk is full."""

from __future__ import annotations

import logging
import os
import stat
from contextlib import suppress

from toxproxy.errors import ToxproxyError
from toxproxy.system import files

log = logging.getLogger(__name__)


class AuditFile:
    """The file at `path`, mode 0600, made where it is missing. It may be of `most` bytes; 0 is no limit.

    One that is full becomes `path`.1 and takes the place of the one before it. A line that cannot be
    written is lost; that is logged once, and when it works again. Raises `ToxproxyError` where the file
    cannot be opened.
    """

    def __init__(self, path: str, most: int) -> None:
        self._path = path
        self._most = most
        self.lost = 0  # lines, since the last one that was written
        self._torn = False  # the last line may not be whole
        try:
            self._file = self._opened()
        except OSError as error:
            raise ToxproxyError(
                f"[log] audit: {path}: expected a file to write to, found: {error.strerror}"
            ) from error

    def write(self, line: str) -> None:
        """Add a line. It is in the file when this returns."""
        data = line.encode() + b"\n"
        try:
            if self._most and self._size and self._size + len(data) > self._most:
                self._turn()
            self._add(data)
        except OSError as error:
            self.lost += 1
            if self.lost == 1:
                log.warning("%s: cannot be written: %s; the audit is not whole", self._path, error.strerror)
            return
        if self.lost:
            log.warning("%s: is written again; %d lines of the audit are lost", self._path, self.lost)
            self.lost = 0

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _opened(self) -> int:
        file = os.open(self._path, files.ADDING, 0o600)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(0, "no regular file")
            files.close_to_others(file)
        except BaseException:
            os.close(file)
            raise
        self._size = found.st_size
        return file

    def _turn(self) -> None:
        """Begin a new file. One that somebody else moved away is left where it is."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                os.replace(self._path, f"{self._path}.1")
        old, self._file = self._file, self._opened()
        os.close(old)
        self._torn = False

    def _add(self, data: bytes) -> None:
        if self._torn:
            data = b"\n" + data
        written = os.write(self._file, data)
        self._size += written
        self._torn = written < len(data)
        if self._torn:
            raise OSError(0, "no room for the whole line")
