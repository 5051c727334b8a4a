"""What the user of a client sees while servers are looked for, found and lost."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator

import pytest

from toxproxy.program import progress
from toxproxy.program.logs import Console, logging_to
from toxproxy.program.progress import Progress, Status, Waiting
from toxproxy.tunnel.friend import Phase

LOOKING = (Phase.ABSENT, "looking for the Tox network")
ASKING = (Phase.ABSENT, "network found; asking the server")
LINKING = (Phase.LINKING, "the server found; connecting")
READY = (Phase.READY, "connected to the server, direct")
MEASURED = (Phase.READY, "connected to the server, direct, 12 ms")


class Terminal(io.StringIO):
    """A stream that is a terminal. `shown` is its text without erased lines."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    @property
    def shown(self) -> str:
        return re.sub(r"[^\n]*\r\x1b\[K", "", self.getvalue())


class World:
    """Statuses that a test sets in place of a client, and the progress that shows them."""

    def __init__(self, console: Console, *statuses: Status) -> None:
        self.statuses = list(statuses)
        self.hint = "try this"
        self.progress = Progress(console, lambda: self.statuses, lambda: self.hint)

    async def change(self, *statuses: Status, settled: bool = True) -> None:
        self.statuses = list(statuses)
        self.progress.changed()
        if settled:
            await asyncio.sleep(progress.SETTLE * 2)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "SETTLE", 0.02)


@pytest.fixture
def terminal() -> Iterator[tuple[Terminal, Console]]:
    stream = Terminal()
    with logging_to(stream) as console:
        yield stream, console


@pytest.fixture
def journal() -> Iterator[tuple[io.StringIO, Console]]:
    stream = io.StringIO()
    with logging_to(stream) as console:
        yield stream, console


def messages(stream: io.StringIO) -> list[str]:
    return [line.split(" INFO ")[1] for line in stream.getvalue().splitlines()]


async def test_at_a_terminal_one_line_shows_the_current_wait(terminal: tuple[Terminal, Console]) -> None:
    stream, console = terminal
    world = World(console)
    with world.progress:
        await world.change(LOOKING)
        assert stream.shown == "looking for the Tox network ... 0 s"
        await world.change(ASKING)
        assert stream.shown == "network found; asking the server ... 0 s"
    assert stream.shown == ""


async def test_at_a_terminal_lines_stay_for_a_new_and_for_a_lost_connection(
    terminal: tuple[Terminal, Console],
) -> None:
    stream, console = terminal
    world = World(console)
    with world.progress:
        await world.change(ASKING)
        await world.change(MEASURED)
        assert stream.shown == f"{MEASURED[1]}\n"
        await world.change(ASKING)
    assert stream.shown == f"{MEASURED[1]}\nconnection lost; {ASKING[1]}\n"


async def test_the_seconds_count_only_during_a_wait(
    terminal: tuple[Terminal, Console],
) -> None:
    stream, console = terminal
    waiting = Waiting(console)
    waiting.show("waiting")
    await asyncio.sleep(1.1)
    assert stream.shown == "waiting ... 1 s"
    waiting.show("")
    written = stream.getvalue()
    await asyncio.sleep(1.1)
    assert stream.getvalue() == written


async def test_without_a_terminal_each_change_is_one_log_line(
    journal: tuple[io.StringIO, Console],
) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        for status in (LOOKING, LOOKING, ASKING, READY, READY, LINKING):
            await world.change(status)
    expected = [LOOKING[1], ASKING[1], READY[1], f"connection lost; {LINKING[1]}"]
    assert messages(stream) == expected


async def test_a_status_that_does_not_last_is_not_reported(journal: tuple[io.StringIO, Console]) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(LINKING, settled=False)
        await world.change(READY, settled=False)
        await world.change(MEASURED)
    assert messages(stream) == [MEASURED[1]]


async def test_a_connection_that_came_back_at_once_is_told(journal: tuple[io.StringIO, Console]) -> None:
    """The log has the end of the session before."""
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(READY, LOOKING)
        await world.change(LINKING, LOOKING, settled=False)
        await world.change(READY, LOOKING)
    assert messages(stream) == [READY[1], LOOKING[1], READY[1]]


async def test_several_servers_are_named_and_a_common_status_is_reported_once(
    journal: tuple[io.StringIO, Console],
) -> None:
    stream, console = journal
    one, other = (Phase.READY, "connected to server A"), (Phase.READY, "connected to server B")
    world = World(console)
    with world.progress:
        await world.change(LOOKING, LOOKING)
        await world.change(one, LOOKING)
        await world.change(one, other)
        await world.change(one, LOOKING)
    expected = [LOOKING[1], one[1], other[1], f"connection lost; {LOOKING[1]}"]
    assert messages(stream) == expected


async def test_at_a_terminal_several_missing_servers_share_the_line(
    terminal: tuple[Terminal, Console],
) -> None:
    stream, console = terminal
    world = World(console)
    with world.progress:
        await world.change((Phase.ABSENT, "asking server A"), (Phase.ABSENT, "asking server B"), READY)
        assert stream.shown == f"{READY[1]}\nasking server A (and 1 more) ... 0 s"


async def test_during_a_long_wait_each_hint_is_given_once(
    journal: tuple[io.StringIO, Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HINT", 0.02)
    stream, console = journal
    world = World(console)
    with world.progress:
        for status in (LOOKING, ASKING):
            await world.change(status)
            await asyncio.sleep(0.05)
        world.hint = "or that"
        await world.change(LOOKING)
        await asyncio.sleep(0.05)
    assert messages(stream) == [LOOKING[1], "try this", ASKING[1], LOOKING[1], "or that"]


async def test_a_connected_client_gets_no_hint(
    journal: tuple[io.StringIO, Console], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "HINT", 0.3)
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(LOOKING, settled=False)
        await asyncio.sleep(0.1)
        await world.change(READY)
        await asyncio.sleep(0.4)
    assert messages(stream) == [LOOKING[1], READY[1]]


async def test_the_log_record_has_the_phase_as_its_event() -> None:
    stream = io.StringIO()
    with logging_to(stream, as_json=True) as console:
        world = World(console)
        with world.progress:
            await world.change(ASKING)
            await world.change(READY)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["absent", "ready"]


async def test_nothing_is_reported_after_its_end(journal: tuple[io.StringIO, Console]) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(READY, settled=False)
    await world.change(LOOKING)
    assert stream.getvalue() == ""
