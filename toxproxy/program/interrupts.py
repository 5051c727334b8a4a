"""Signals that end a block of the program instead of the process, or have it read its configuration again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from toxproxy.system import signals, terminal

_CLOSING = 0.1  # seconds after SIGHUP until a terminal that was closed is gone


class Interrupts:
    """A context manager in which each SIGINT, SIGTERM or SIGHUP ends one block (`ending`); see `signals`.

    With `reload`, SIGHUP calls that instead, as services expect, unless it came since the terminal was
    closed that the program was started from: nobody could end it with Ctrl-C any more.

    Needs a running loop. If SIGHUP is ignored, as under nohup, it stays ignored.
    """

    def __init__(self, reload: Callable[[], None] | None = None) -> None:
        self._reload = reload
        self._from_terminal = terminal.attached()
        self._watch: signals.Watch | None = None
        self._block: asyncio.Timeout | None = None
        self._pending = 0  # signals that came when there was no block to end

    def __enter__(self) -> Self:
        handlers = dict.fromkeys(signals.ENDING, self._arrived)
        if signals.HANGUP is not None and not signals.ignored(signals.HANGUP):
            handlers[signals.HANGUP] = self._arrived if self._reload is None else self._hung_up
        self._watch = signals.Watch(handlers)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._watch is not None:
            self._watch.close()

    @asynccontextmanager
    async def ending(self) -> AsyncIterator[None]:
        """A block that the next signal ends: it is cancelled, and the code behind it goes on."""
        try:
            async with asyncio.timeout(None) as self._block:
                if self._pending:
                    self._pending -= 1
                    self._end(self._block)
                yield
        except TimeoutError:
            if self._block is None or not self._block.expired():
                raise
        finally:
            self._block = None

    def _hung_up(self) -> None:
        asyncio.get_running_loop().call_later(_CLOSING, self._reload_or_end)

    def _reload_or_end(self) -> None:
        if self._reload is None or (self._from_terminal and not terminal.attached()):
            self._arrived()
        else:
            self._reload()

    def _arrived(self) -> None:
        if self._block is None or self._block.when() is not None:
            self._pending += 1
        else:
            self._end(self._block)

    def _end(self, block: asyncio.Timeout) -> None:
        block.reschedule(asyncio.get_running_loop().time())
