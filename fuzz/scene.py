"""Targets that need an event loop: each input gets a new one, and whatever goes wrong on it is raised."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

SECONDS = 20.0  # far more than any input takes: longer is a bug

_LOG = logging.getLogger("toxproxy")


class _Complaints(logging.Handler):
    """Keeps what is logged as an error: an exception that somebody caught and had no answer to."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(self.format(record))


def run(scene: Coroutine[Any, Any, None]) -> None:
    """Run it to its end. Raises what it raises, and `AssertionError` for a task that is left, for what the
    loop was told of as an error, and for what was logged as one."""
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
