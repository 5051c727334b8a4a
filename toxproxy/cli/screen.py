"""The screen of `toxproxy top`, by curses."""

from __future__ import annotations

import argparse
import curses
import time
from collections.abc import Callable
from contextlib import suppress

from toxproxy.cli.asking import ask, fields
from toxproxy.cli.top import INTERVAL, look, update
from toxproxy.control.messages import ControlError
from toxproxy.control.snapshots import Snapshot
from toxproxy.errors import ToxproxyError
from toxproxy.program.live import LiveList
from toxproxy.program.logs import escaped


def show(args: argparse.Namespace) -> None:
    """Show the connections until `q`. Raises `ToxproxyError` for a terminal that cannot do that."""
    try:
        curses.wrapper(lambda window: Screen(args, window).run())
    except curses.error as error:
        raise ToxproxyError(f"this terminal cannot be used for top ({error}): toxproxy streams") from None


class Screen:
    """The terminal's whole screen."""

    def __init__(self, args: argparse.Namespace, window: curses.window) -> None:
        self._args = args
        self._window = window
        self._live = LiveList()
        self._said = ""
        self._keys: dict[int, Callable[[], None]] = {
            curses.KEY_UP: lambda: self._live.move(-1),
            curses.KEY_DOWN: lambda: self._live.move(1),
            curses.KEY_PPAGE: lambda: self._live.move(-self._page()),
            curses.KEY_NPAGE: lambda: self._live.move(self._page()),
            ord("c"): self._close,
        }

    def run(self) -> None:
        """Until `q`."""
        with suppress(curses.error):  # this terminal cannot hide the cursor
            curses.curs_set(0)
        due = 0.0
        snapshot = look(self._args)
        while True:
            if (now := time.monotonic()) >= due:
                snapshot = look(self._args)
                update(self._args, self._live)
                due = now + INTERVAL
            self._draw(snapshot)
            self._window.timeout(max(1, round(1000 * (due - time.monotonic()))))
            key = self._window.getch()
            if key == ord("q"):
                return
            if key in self._keys:
                self._said = ""
                self._keys[key]()

    def _page(self) -> int:
        return max(1, self._window.getmaxyx()[0] - 6)

    def _close(self) -> None:
        if (id := self._live.chosen) is None:
            self._said = "choose one first"
            return
        try:
            result = fields(ask(self._args, "close", id=id))
        except ControlError as error:  # it has ended meanwhile
            self._said = str(error)
        else:
            self._said = f"the connection to {result['target']} is closed"

    def _draw(self, snapshot: Snapshot) -> None:
        height, width = self._window.getmaxyx()
        lines, chosen = self._live.lines(snapshot, height, self._said)
        self._window.erase()
        for row, line in enumerate(lines):
            style = curses.A_REVERSE if row == chosen else curses.A_NORMAL
            # The last cell of the screen cannot be written to: curses would move the cursor out of it.
            self._window.addnstr(row, 0, escaped(line), max(0, width - 1), style)
        self._window.refresh()
