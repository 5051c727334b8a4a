"""Targets that need an event loop. Each input gets a new one, and every error on it is raised."""

from __future__ import annotations

import asyncio
import logging
import selectors
import time
from collections.abc import Coroutine
from typing import Any
from unittest import mock

from toxproxy.tunnel import session

SECONDS = 20.0  # far more than any input needs: a longer run is a bug
_VIRTUAL_SECONDS = 1e7  # the same in virtual time

_LOG = logging.getLogger("toxproxy")


class _Complaints(logging.Handler):
    """Keeps the log records of errors: exceptions that were caught and only logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


class _Patient(selectors.DefaultSelector):
    """Never waits: the time passes at once."""

    passed = 0.0  # seconds

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if not events and timeout:
            self.passed += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes at once where nothing is to be done."""

    def __init__(self) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)

    def time(self) -> float:
        return 1000.0 + self._patient.passed


def run(scene: Coroutine[Any, Any, None], *, virtual: bool = False) -> None:
    """Run a coroutine to its end; with `virtual` in a time of its own. Raises what it raises.

    Raises `AssertionError` for a task that is still running, for an error reported to the event loop,
    and for an error in the log.
    """
    complaints = _Complaints()
    propagate, _LOG.propagate = _LOG.propagate, False
    _LOG.addHandler(complaints)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop if virtual else None) as runner:
            seconds = _VIRTUAL_SECONDS if virtual else SECONDS
            clock = runner.get_loop().time if virtual else time.monotonic
            with mock.patch.object(session, "monotonic", clock):  # sessions do not go by the loop's clock
                runner.run(_watched(scene, complaints.records, seconds))
    finally:
        _LOG.removeHandler(complaints)
        _LOG.propagate = propagate
    assert not complaints.records, "\n".join(complaints.records)


async def _watched(scene: Coroutine[Any, Any, None], complaints: list[str], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
    async with asyncio.timeout(seconds):
        await scene
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left behind: {left}"
