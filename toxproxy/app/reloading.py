"""Reads the configuration of a running end again, when it is told to: by command or by SIGHUP."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import Enum

from toxproxy.app.orders import expect
from toxproxy.config import advice
from toxproxy.config.advice import Role
from toxproxy.config.changes import Changes
from toxproxy.config.settings import Config
from toxproxy.control.encoding import encoded
from toxproxy.control.server import Params
from toxproxy.control.snapshots import ReloadSnapshot
from toxproxy.errors import ToxproxyError

log = logging.getLogger(__name__)


class Reload(Enum):
    """How far a reload is."""

    BEGUN = "begun"
    ENDED = "ended"  # whether it was taken over or not


class Reloader:
    """One reload at a time, and each to its end, even if who ordered it is gone.

    `source` reads the configuration as at the start; it is called in a thread. None: there is no file.
    `reload` takes it over, or raises `ToxproxyError` and has changed nothing. `tell` is called when one
    begins and when it has ended.
    """

    def __init__(self, role: Role, reload: Callable[[Config], Awaitable[Changes]]) -> None:
        self.source: Callable[[], Config] | None = None
        self.tell: Callable[[Reload], None] = lambda _: None
        self._role: Role = role
        self._reload = reload
        self._now: asyncio.Task[ReloadSnapshot] | None = None
        self._next: asyncio.Task[ReloadSnapshot] | None = None  # serves all who ask until it reads the file
        self._closed = True

    def open(self) -> None:
        """The end runs: from now on it can be told to reload."""
        self._closed = False

    async def ordered(self, params: Params) -> object:
        """The control method `reload`: a `ReloadSnapshot`."""
        expect(params)
        return encoded(await asyncio.shield(self._begin()))

    def signalled(self) -> None:
        """SIGHUP came."""
        if not self._closed:
            self._begin()

    async def close(self) -> None:
        """Wait for a reload that is under way. None begins any more."""
        self._closed = True
        if tasks := [task for task in (self._now, self._next) if task is not None]:
            await asyncio.wait(tasks)

    def _begin(self) -> asyncio.Task[ReloadSnapshot]:
        if self._closed:
            raise ToxproxyError("it is starting or stopping")
        if self._next is None:
            self._next = asyncio.create_task(self._run(self._now), name="reload")
            self._next.add_done_callback(_tell)
        return self._next

    async def _run(self, before: asyncio.Task[ReloadSnapshot] | None) -> ReloadSnapshot:
        if before is not None:
            await asyncio.wait((before,))
        self._now, self._next = self._next, None
        self.tell(Reload.BEGUN)
        try:
            return await self._read_again()
        finally:
            self.tell(Reload.ENDED)

    async def _read_again(self) -> ReloadSnapshot:
        if self.source is None:
            raise ToxproxyError("there is nothing to read again: it was started without a configuration file")
        config = await asyncio.to_thread(self.source)
        changes = await self._reload(config)
        warnings = tuple(advice.warnings(config, self._role))
        for warning in warnings:
            log.warning("%s", warning)
        log.info("the configuration was read again: %s", "; ".join(summary(changes)))
        return ReloadSnapshot(
            added=changes.added,
            removed=changes.removed,
            changed=changes.changed,
            restart=changes.restart,
            warnings=warnings,
        )


def summary(changes: Changes | ReloadSnapshot) -> list[str]:
    """What a reload did, in short sentences."""
    kinds = (
        ("added", changes.added),
        ("removed", changes.removed),
        ("changed", changes.changed),
        ("restart to change", changes.restart),
    )
    return [f"{what}: {', '.join(names)}" for what, names in kinds if names] or ["nothing is different"]


def _tell(task: asyncio.Task[ReloadSnapshot]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    text = "the configuration is not taken over, and nothing has changed: %s"
    log.error(text, error, exc_info=None if isinstance(error, ToxproxyError) else error)
