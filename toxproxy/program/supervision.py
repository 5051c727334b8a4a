"""What the service manager is told of a running end: ready, reloading, stopping, a line of status, alive."""

from __future__ import annotations

import asyncio
import logging
from typing import Self

from toxproxy.app.client import Client
from toxproxy.app.reloading import Reload
from toxproxy.app.server import Server
from toxproxy.program import report
from toxproxy.system.notify import Notifier

log = logging.getLogger(__name__)

_SETTLE = 1.0  # seconds between two lines of status, at least


class Supervision:
    """A context manager while `end` runs: entering it says that it is ready, leaving it that it stops.

    Ready means that everything is bound and Tox runs, not that another end was met. `end` counts as alive
    while its Tox node takes its turns: so a loop or a node that hangs is noticed. Without a service manager
    nothing is done.
    """

    def __init__(self, end: Server | Client, notifier: Notifier) -> None:
        self._end = end
        self._notifier = notifier
        self._turns = 0  # of the node, when the manager was told last
        self._status: asyncio.TimerHandle | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._told = ""
        self._over = False

    def __enter__(self) -> Self:
        if self._notifier:
            self._end.watch(self._changed)
            self._end.reloader.tell = self._reload
            self._tell_status()
            self._notifier.ready()
            self._expect_beat()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over = True
        for timer in (self._status, self._beat):
            if timer is not None:
                timer.cancel()
        self._notifier.stopping()

    def _reload(self, what: Reload) -> None:
        if self._over:
            return  # one that began before the end; the manager is not told that all goes on
        if what is Reload.BEGUN:
            self._notifier.reloading()
        else:
            self._notifier.ready()

    def _changed(self) -> None:
        if self._status is None and not self._over:
            self._status = asyncio.get_running_loop().call_later(_SETTLE, self._tell_status)

    def _tell_status(self) -> None:
        self._status = None
        text = report.verdict(self._end.status())
        if text != self._told:
            self._told = text
            self._notifier.status(text)

    def _expect_beat(self) -> None:
        if (seconds := self._notifier.watchdog) is not None:
            self._beat = asyncio.get_running_loop().call_later(seconds / 2, self._tell_alive)

    def _tell_alive(self) -> None:
        if self._end.node.turns != self._turns:
            self._turns = self._end.node.turns
            self._notifier.alive()
        else:
            log.error("the Tox node stands still; the service manager is not told that it is alive")
        self._expect_beat()
