"""Targets that need an event loop. Each input gets a new one, and every error on it is raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

SECONDS = 20.0  # far more than any input needs: a longer run is a bug

_LOG = logging.getLogger("toxproxy")


class _Complaints(logging.Handler):
    """Keeps the log records of errors: exceptions that were caught and only logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end. Raises what it raises.

    Raises `AssertionError` for a task that is still running, for an error reported to the event loop,
    and for an error in the log.
    """
    complaints = _Complaints()
    propagate, _LOG.propagate = _LOG.propagate, False
    _LOG.addHandler(complaints)
    try:
        asyncio.run(_watched(scene, complaints.records))
    finally:
        _LOG.removeHandler(complaints)
        _LOG.propagate = propagate
    assert not complaints.records, "\n".join(complaints.records)


async def _watched(scene: Coroutine[Any, Any, None], complaints: list[str]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(repr(context)))
    async with asyncio.timeout(SECONDS):
        await scene
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left behind: {left}"
