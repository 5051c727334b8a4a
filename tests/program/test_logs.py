"""Log lines: nobody can forge one, programs can parse them, and the status line below stays whole."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import select
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from tests.machine import pseudo_terminal
from toxproxy.program.logs import Console, escaped, logging_to

log = logging.getLogger("toxproxy.test")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, int]]:
    """A terminal of 40 columns: a stream to write to, and a descriptor to read what it got."""
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pseudo_terminal()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    with open(slave, "w") as stream:
        yield stream, master
    os.close(master)


def sent(master: int) -> str:
    written = b""
    while select.select([master], [], [], 0)[0]:
        written += os.read(master, 65536)
    return written.decode()


@pytest.mark.parametrize(
    ("raw", "written"),
    [
        ("plain, öäü 漢 …", "plain, öäü 漢 …"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x7f\x9b", r"\x1b[31mred\x7f\x9b"),
        ("\u2028\u202e\ud800", r"\u2028\u202e\ud800"),
    ],
)
def test_characters_that_are_not_printable_are_escaped(raw: str, written: str) -> None:
    assert escaped(raw) == written


def test_a_stranger_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        log.info("name: %s", "x\n2026-01-31T12:00:00Z INFO client allowed")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"INFO name: x\n2026-01-31T12:00:00Z INFO client allowed")


def test_the_lines_of_a_traceback_do_not_look_like_records() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        try:
            raise ValueError("x\n2026-01-31T12:00:00Z INFO client allowed")
        except ValueError:
            log.exception("it failed")
    first, *rest = stream.getvalue().splitlines()
    assert first.endswith("ERROR it failed")
    assert len(rest) > 2
    assert all(line.startswith("  | ") for line in rest)


def test_json_logs_are_one_object_per_line_with_the_time_in_utc() -> None:
    stream = io.StringIO()
    with logging_to(stream, as_json=True):
        log.warning("two\nlines: %d", 2)
        log.info("up", extra={"event": "started"})
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert first == {"level": "WARNING", "logger": "toxproxy.test", "message": "two\nlines: 2"}
    assert second["event"] == "started"


def test_json_logs_have_a_field_for_the_exception() -> None:
    stream = io.StringIO()
    with logging_to(stream, as_json=True):
        try:
            raise ValueError("bad")
        except ValueError:
            log.exception("it failed")
    record = json.loads(stream.getvalue())
    assert record["message"] == "it failed"
    assert record["exception"].endswith("ValueError: bad")


@pytest.mark.parametrize(("debug", "lines"), [(False, 1), (True, 2)])
def test_debug_lines_are_written_only_if_asked_for(debug: bool, lines: int) -> None:
    stream = io.StringIO()
    with logging_to(stream, debug=debug):
        log.info("news")
        log.debug("details")
    assert len(stream.getvalue().splitlines()) == lines


def test_nothing_is_written_after_the_block() -> None:
    stream = io.StringIO()
    with logging_to(stream):
        pass
    log.warning("late")
    assert stream.getvalue() == ""


def test_a_terminal_gets_the_message_alone(terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    with logging_to(stream):
        log.info("news")
        log.warning("careful")
    assert sent(master) == "news\r\nwarning: careful\r\n"


def test_a_log_line_is_written_above_the_status_line(terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    with logging_to(stream) as console:
        console.show("waiting 1 s")
        console.show("waiting 2 s")
        log.info("news")
    erase = "\r\x1b[K"
    assert sent(master) == f"{erase}waiting 1 s{erase}waiting 2 s{erase}news\r\nwaiting 2 s{erase}"


def test_a_status_line_is_cut_to_the_terminals_width(terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    console = Console(stream)
    console.show("x" * 200)
    assert sent(master) == "\r\x1b[K" + "x" * 36 + "..."


@pytest.mark.parametrize("term", ["dumb", None])
def test_a_terminal_that_cannot_rewrite_gets_no_status_line(
    terminal: tuple[TextIO, int], monkeypatch: pytest.MonkeyPatch, term: str | None
) -> None:
    stream, master = terminal
    if term is None:
        monkeypatch.delenv("TERM")
    else:
        monkeypatch.setenv("TERM", term)
    with logging_to(stream) as console:
        console.show("waiting")
        log.info("news")
    assert sent(master) == "news\r\n"


def test_json_at_a_terminal_has_no_status_line(terminal: tuple[TextIO, int]) -> None:
    stream, master = terminal
    with logging_to(stream, as_json=True) as console:
        console.show("waiting")
        log.info("news")
    assert json.loads(sent(master))["message"] == "news"


def test_a_closed_terminal_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(logging, "raiseExceptions", False)
    master, slave = pseudo_terminal()
    stream = open(slave, "w")  # noqa: SIM115
    console = Console(stream)
    os.close(master)
    console.show("waiting")
    console.emit(log.makeRecord("toxproxy.test", logging.INFO, __file__, 1, "news", (), None))
    with pytest.raises(OSError, match="Input/output"):
        stream.close()  # which shows that a write was tried


def test_in_the_journal_each_line_has_its_level_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with open(reading) as journal, open(writing, "w") as stream:
        status = os.fstat(writing)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        with logging_to(stream, debug=True):
            for level in ("debug", "info", "warning", "error"):
                getattr(log, level)("one\ntwo")
            try:
                raise ValueError("three\nfour")
            except ValueError:
                log.exception("five")
        stream.close()
        lines = journal.read().splitlines()
    assert lines[:5] == [r"<7>one\ntwo", r"<6>one\ntwo", r"<4>one\ntwo", r"<3>one\ntwo", "<3>five"]
    assert all(line.startswith("<3>  | ") for line in lines[5:])
    assert lines[-1].endswith("four")


def test_another_stream_than_the_journal_keeps_its_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    reading, writing = os.pipe()
    with open(reading) as other, open(writing, "w") as stream:
        with logging_to(stream):
            log.info("one")
        stream.close()
        assert other.read().endswith("Z INFO one\n")


def test_after_the_block_the_levels_are_as_before() -> None:
    loggers = [logging.getLogger(name) for name in ("toxproxy", "asyncio")]
    before = [each.level for each in loggers]
    with logging_to(io.StringIO(), debug=True):
        assert loggers[0].level == logging.DEBUG
    assert [each.level for each in loggers] == before
