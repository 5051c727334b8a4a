"""Shows what a client waits for.

On a terminal, a status line is rewritten while a server is missing, and each connection to a server that
begins or ends is a line of the log. Elsewhere every change is a line of the log. No timer runs while all
servers are connected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import zip_longest
from typing import Self

from toxproxy.program.logs import Console
from toxproxy.tunnel.friend import Phase

log = logging.getLogger(__name__)

Status = tuple[Phase, str]

SETTLE = 0.5  # seconds that a change must last to be logged
HINT = 20.0  # seconds without a change until a hint is given


class Waiting:
    """A status line with the seconds since it appeared, if the console can show one."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def show(self, text: str) -> None:
        """Show what is waited for; "" removes the line. A new text does not restart the seconds."""
        self._text = text
        if not text or not self._console.live:
            self.close()
        elif self._timer is None:
            self._since = asyncio.get_running_loop().time()
            self._tick()
        else:
            self._draw()

    def close(self) -> None:
        """Remove the line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._console.show("")

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self._draw()

    def _draw(self) -> None:
        seconds = asyncio.get_running_loop().time() - self._since
        self._console.show(f"{self._text} ... {seconds:.0f} s")


class Progress:
    """Shows and logs the changes of `statuses`, which has one for each server, in a fixed order.

    Call `changed` whenever a status may have changed. `hint` returns a hint for a person who has been
    waiting for long; each hint is given once. A context manager; nothing is shown after its end.
    """

    def __init__(
        self, console: Console, statuses: Callable[[], list[Status]], hint: Callable[[], str]
    ) -> None:
        self._waiting = Waiting(console)
        self._live = console.live
        self._statuses = statuses
        self._hint = hint
        self._told: list[Status] = []
        self._gone: set[int] = set()  # servers that were missing since then, by their number
        self._hints: set[str] = set()
        self._settling: asyncio.TimerHandle | None = None
        self._hinting: asyncio.TimerHandle | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._closed = True
        self._waiting.close()
        for timer in (self._settling, self._hinting):
            if timer is not None:
                timer.cancel()

    def changed(self) -> None:
        """Show the statuses now, and log what is still new after `SETTLE` seconds."""
        if self._closed:
            return
        statuses = self._statuses()
        self._gone |= {number for number, (phase, _) in enumerate(statuses) if phase is not Phase.READY}
        missing = dict.fromkeys(text for phase, text in statuses if phase is not Phase.READY)
        first = next(iter(missing), "")
        self._waiting.show(first if len(missing) < 2 else f"{first} (and {len(missing) - 1} more)")
        if self._settling is None:
            self._settling = asyncio.get_running_loop().call_later(SETTLE, self._settled)

    def _settled(self) -> None:
        self._settling = None
        told, self._told = self._told, self._statuses()
        # The log has the end of a session. So it has the next connection, too, however soon that came.
        back = {number for number, (phase, _) in enumerate(self._told) if phase is Phase.READY} & self._gone
        self._gone = set()
        if self._told == told and not back:
            return
        changes = [
            (new, old)
            for number, (new, old) in enumerate(zip_longest(self._told, told))
            if new and (old is None or new[1] != old[1] or number in back)
        ]
        for (phase, text), old in dict.fromkeys(changes):
            lost = old is not None and old[0] is Phase.READY and phase is not Phase.READY
            # On a terminal, what is missing is in the status line already.
            if phase is Phase.READY or lost or not self._live:
                log.info("%s", f"connection lost; {text}" if lost else text, extra={"event": phase.value})
        self._expect_hint()

    def _expect_hint(self) -> None:
        if self._hinting is not None:
            self._hinting.cancel()
            self._hinting = None
        if any(phase is Phase.ABSENT for phase, _ in self._told):
            self._hinting = asyncio.get_running_loop().call_later(HINT, self._give_hint)

    def _give_hint(self) -> None:
        self._hinting = None
        text = self._hint()
        if text not in self._hints:
            self._hints.add(text)
            log.info("%s", text)
