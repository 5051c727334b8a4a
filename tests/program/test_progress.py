"""What a client's user sees while servers are looked for, found and lost."""

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
    """A stream that says it is a terminal; what it shows is its text with erased lines left out."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError

    @property
    def shown(self) -> str:
        return re.sub(r"[^\n]*\r\x1b\[K", "", self.getvalue())


class World:
    """Statuses that a test sets, as a client would, and what comes out of it."""

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


async def test_at_a_terminal_one_line_says_what_is_waited_for(terminal: tuple[Terminal, Console]) -> None:
    stream, console = terminal
    world = World(console)
    with world.progress:
        await world.change(LOOKING)
        assert stream.shown == "looking for the Tox network ... 0 s"
        await world.change(ASKING)
        assert stream.shown == "network found; asking the server ... 0 s"
    assert stream.shown == ""


async def test_at_a_terminal_a_line_stays_for_a_connection_won_and_one_for_it_lost(
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


async def test_the_seconds_go_on_while_something_is_waited_for_and_stop_then(
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


async def test_elsewhere_each_change_is_one_line_and_nothing_is_repeated(
    journal: tuple[io.StringIO, Console],
) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        for status in (LOOKING, LOOKING, ASKING, READY, READY, LINKING):
            await world.change(status)
    expected = [LOOKING[1], ASKING[1], READY[1], f"connection lost; {LINKING[1]}"]
    assert messages(stream) == expected


async def test_what_does_not_last_is_not_told(journal: tuple[io.StringIO, Console]) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(LINKING, settled=False)
        await world.change(READY, settled=False)
        await world.change(MEASURED)
    assert messages(stream) == [MEASURED[1]]


async def test_several_servers_are_told_apart_and_what_is_common_is_said_once(
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


async def test_who_waits_for_long_gets_each_hint_once(
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


async def test_nobody_who_is_connected_gets_a_hint(
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


async def test_programs_read_the_phase_in_the_event() -> None:
    stream = io.StringIO()
    with logging_to(stream, as_json=True) as console:
        world = World(console)
        with world.progress:
            await world.change(ASKING)
            await world.change(READY)
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["absent", "ready"]


async def test_after_its_end_nothing_is_told(journal: tuple[io.StringIO, Console]) -> None:
    stream, console = journal
    world = World(console)
    with world.progress:
        await world.change(READY, settled=False)
    await world.change(LOOKING)
    assert stream.getvalue() == ""
