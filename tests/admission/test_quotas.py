"""How much each client has carried in this month, also after a crash."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from toxproxy.admission import quotas as module
from toxproxy.admission.quotas import FILE, SAVE_BYTES, Quotas
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder

KEY, OTHER = b"\x2a" * 32, b"\x3b" * 32
NAME = KEY.hex().upper()


class Clock:
    """The time of day. A test sets it."""

    def __init__(self) -> None:
        self.set(2026, 11, 30, 23, 59)

    def set(self, *date: int) -> None:
        year, month, day, *rest = date
        self.now = datetime(year, month, day, *rest, tzinfo=UTC).timestamp()  # type: ignore[arg-type]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def file_of(state: StateFolder) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((state.path / FILE).read_text())
    return found


async def test_bytes_add_up_and_are_there_after_a_restart(state: StateFolder, clock: Clock) -> None:
    quotas = Quotas(state)
    assert quotas.used(KEY) == 0
    assert [quotas.add(KEY, size) for size in (10, 0, 5)] == [10, 10, 15]
    quotas.add(OTHER, 1)
    await quotas.close()
    again = Quotas(state)
    assert (again.used(KEY), again.used(OTHER)) == (15, 1)
    assert again.add(KEY, 1) == 16
    await again.close()


async def test_a_month_begins_at_midnight_of_utc(state: StateFolder, clock: Clock) -> None:
    quotas = Quotas(state)
    quotas.add(KEY, 10)
    quotas.add(OTHER, 10)
    clock.set(2026, 12, 1)
    assert quotas.used(KEY) == 0
    assert quotas.add(KEY, 3) == 3
    await quotas.close()
    assert file_of(state) == {NAME: {"month": "2026-12", "bytes": 3}}  # the other one's month is over
    clock.set(2027, 1, 1)
    assert quotas.used(KEY) == 0


async def test_a_clock_that_is_set_back_begins_no_month_again(state: StateFolder, clock: Clock) -> None:
    quotas = Quotas(state)
    quotas.add(KEY, 10)
    await quotas.close()
    clock.set(1970, 1, 1)
    again = Quotas(state)
    assert again.used(KEY) == 10
    assert again.add(KEY, 1) == 11
    await again.close()
    assert file_of(state) == {NAME: {"month": "2026-11", "bytes": 11}}


async def test_a_crash_forgets_only_the_last_bytes(
    state: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_AFTER", 0.05)
    quotas = Quotas(state)
    quotas.add(KEY, 10)
    async with asyncio.timeout(30):
        while not (state.path / FILE).exists():
            await asyncio.sleep(0.01)
    assert Quotas(state).used(KEY) == 10  # as if this process were gone
    await quotas.close()


async def test_many_bytes_are_written_down_sooner(state: StateFolder, clock: Clock) -> None:
    quotas = Quotas(state)
    quotas.add(KEY, SAVE_BYTES - 1)
    await asyncio.sleep(0.1)
    assert not (state.path / FILE).exists()
    quotas.add(KEY, 1)
    async with asyncio.timeout(30):
        while not (state.path / FILE).exists():
            await asyncio.sleep(0.01)
    assert Quotas(state).used(KEY) == SAVE_BYTES
    await quotas.close()


async def test_a_full_disk_stops_nothing(
    state: StateFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise StateError("no room")

    quotas = Quotas(state)
    quotas.add(KEY, 10)
    monkeypatch.setattr(state, "write", full)
    with caplog.at_level(logging.WARNING):
        await quotas.close()
    assert caplog.messages == ["no room; a restart would forget what clients have carried since"]
    assert quotas.used(KEY) == 10


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", '{"AB": {"month": "2026-11", "bytes": 1}}', "[" * 100_000,
        f'{{"{NAME}": {{"month": "2026-13", "bytes": 1}}}}',
        f'{{"{NAME}": {{"month": "2026-11", "bytes": -1}}}}',
        f'{{"{NAME}": {{"month": "2026-11"}}}}', f'{{"{NAME}": 5}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error_and_stays(state: StateFolder, text: str) -> None:
    (state.path / FILE).write_text(text)
    with pytest.raises(StateError, match=r"quotas.json is damaged \(.*\): mend it, or remove it to forget"):
        Quotas(state)
    assert (state.path / FILE).read_text() == text
