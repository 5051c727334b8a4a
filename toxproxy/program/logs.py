"""The log on stderr: text for people or JSON for programs, one record a line.

A message may contain text from strangers, so control characters are escaped: nobody can forge a line or
control the terminal. On a terminal, a status line may be below the log. Both go through one `Console`,
so that they do not overwrite each other.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import TextIO

from toxproxy.system import journal
from toxproxy.system.terminal import controllable

_ERASE = "\r\x1b[K"  # go to the start of the line and erase it (ECMA-48, EL)
_CONTINUED = "\n  | "  # before each line of a traceback; no record begins like this
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}  # of syslog(3)


class Console(logging.StreamHandler[TextIO]):
    """Writes log lines to `stream`. On a terminal it keeps a status line below them."""

    def __init__(self, stream: TextIO, *, as_json: bool = False) -> None:
        super().__init__(stream)
        terminal = stream.isatty() and not as_json
        #: Whether a status line can be shown.
        self.live = not as_json and controllable(stream)
        self._status = ""
        if as_json:
            self.setFormatter(JsonFormatter())
        elif journal.leads_to(stream):
            self.setFormatter(JournalFormatter())
        else:
            self.setFormatter(TerminalFormatter() if terminal else TextFormatter())

    def show(self, text: str) -> None:
        """Show `text` as the status line; "" removes the line."""
        if self.live and text != self._status:
            self._status = text
            self._write(_ERASE + self._fitted())

    def emit(self, record: logging.LogRecord) -> None:
        if self._status:
            self._write(_ERASE)
        super().emit(record)
        if self._status:
            self._write(self._fitted())

    def _fitted(self) -> str:
        """The status line, cut to the terminal's width: a line that wraps cannot be erased."""
        columns = 80
        with suppress(OSError):
            columns = os.get_terminal_size(self.stream.fileno()).columns or columns
        text = escaped(self._status)
        return text if len(text) < columns else text[: columns - 4] + "..."

    def _write(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone; the program goes on
            self.stream.write(text)
            self.stream.flush()


class TextFormatter(logging.Formatter):
    """Lines such as `2026-01-31T12:00:00Z WARNING message`, for files and journals."""

    def format(self, record: logging.LogRecord) -> str:
        line = self.prefix(record) + escaped(record.getMessage())
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(_CONTINUED + escaped(part) for part in trace.split("\n"))
        return line

    def prefix(self, record: logging.LogRecord) -> str:
        """The text before the message."""
        time = datetime.fromtimestamp(record.created, UTC)
        return f"{time:%Y-%m-%dT%H:%M:%SZ} {record.levelname} "


class TerminalFormatter(TextFormatter):
    """The message alone, with the level before it unless that is INFO."""

    def prefix(self, record: logging.LogRecord) -> str:
        return "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "


class JournalFormatter(TextFormatter):
    """For the system's journal: each line begins with its level, such as `<4>` (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", f"\n{self.prefix(record)}")

    def prefix(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 3)}>"


class JsonFormatter(logging.Formatter):
    """A JSON object: `time` (ISO 8601, UTC), `level`, `logger`, `message`.

    `exception` has the traceback, if there is one. `event` is in records that programs may wait for:
    "started" once everything is bound, then "absent", "linking" or "ready" for each change of a server.
    """

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (event := getattr(record, "event", None)) is not None:
            fields["event"] = event
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def escaped(text: str) -> str:
    r"""`text` with every character that is not printable escaped: \n, \x1b, \u2028 …"""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _discard_unwritable(stream: TextIO) -> None:
    """Drop buffered text that cannot be written, as on a full disk.

    Otherwise Python tries again when it exits, and exits with a failure.
    """
    try:
        stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


@contextmanager
def logging_to(stream: TextIO | None, *, debug: bool = False, as_json: bool = False) -> Iterator[Console]:
    """A block whose log goes to `stream`: toxproxy's from INFO on (`debug`: DEBUG), libraries' warnings.

    `stream` may be None, as a closed standard stream is in Python. The log is dropped then.
    """
    with nullcontext(stream) if stream is not None else open(os.devnull, "w") as target:
        console = Console(target, as_json=as_json)
        root = logging.getLogger()
        root.addHandler(console)
        ours, theirs = logging.getLogger("toxproxy"), logging.getLogger("asyncio")
        levels = ours.level, theirs.level
        ours.setLevel(logging.DEBUG if debug else logging.INFO)
        # asyncio warns about writes to connections that are gone, which are normal for a proxy.
        theirs.setLevel(logging.NOTSET if debug else logging.ERROR)
        try:
            yield console
        finally:
            console.show("")
            root.removeHandler(console)
            ours.setLevel(levels[0])
            theirs.setLevel(levels[1])
            console.close()
            _discard_unwritable(target)
