"""Keeps a port mapping for as long as the program runs."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable

from toxproxy.mapping.announcements import Announced, listen
from toxproxy.mapping.epoch import Epoch
from toxproxy.mapping.grant import By, Grant, Mapping, MappingError, Progress
from toxproxy.mapping.router import Router
from toxproxy.pace import Backoff, Pace
from toxproxy.system.changes import drain, watch
from toxproxy.system.gateway import Gateway, default_gateway

LIFETIME = 1200  # seconds that a mapping is asked for: it is gone that soon after a kill -9
_SHORTEST = 5.0  # seconds between two renewals, however short the lifetime that the router gives
_FIRST_PAUSE, _MOST_PAUSE = 30.0, 1800.0  # seconds after a router that granted nothing
_HINTS = 10  # a minute: changes of the network, and announcements, that are followed at once
_SETTLE = 1.0  # seconds after a hint, at most: changes come in groups, and hosts should not all ask at once

_log = logging.getLogger(__name__)


class Mapper:
    """Asks the default gateway to lead a UDP port of its external address to `port` of this machine.

    `mapping` is what it granted, or None; `changed` is called when that is another address or port.
    `progress` says why there is none, with `error` where the router gives none. The
    mapping is renewed at half of its lifetime, asked for again when the router was restarted or this
    machine has another gateway or address, and given back by `close`. Only an IPv4 gateway is asked, and
    none where this machine's own address is public.
    """

    def __init__(
        self, port: int, *, lifetime: int = LIFETIME, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.mapping: Mapping | None = None
        self.progress = Progress.ASKING
        self.error: MappingError | None = None
        self._port = port
        self._lifetime = lifetime
        self._changed = changed
        self._router: Router | None = None
        self._epoch = Epoch()
        self._backoff = Backoff(_FIRST_PAUSE, _MOST_PAUSE)
        self._hint = asyncio.Event()
        self._hints = Pace(_HINTS)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ask. Needs a running loop, and does not wait for an answer."""
        self._task = asyncio.create_task(self._run(), name="port mapping")

    async def close(self) -> None:
        """Give the mapping back, within two seconds."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._router is not None:
            await self._router.give_back()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        announcements = await listen(self._announced)
        network = watch()
        try:
            if network is not None:
                loop.add_reader(network, self._network_changed, network)
            while True:
                self._hint.clear()
                pause = await self._ask()
                try:
                    async with asyncio.timeout(pause):
                        await self._hint.wait()
                    await asyncio.sleep(random.uniform(_SETTLE / 2, _SETTLE))
                except TimeoutError:
                    pass
        finally:
            if network is not None:
                loop.remove_reader(network)
                network.close()
            if announcements is not None:
                announcements.close()

    async def _ask(self) -> float:
        """Get or renew the mapping. Returns the seconds until that is due again."""
        router = self._look()
        if router is None:
            _log.debug("no port mapping: no router that could make one")
            self._set(None)
            return _MOST_PAUSE
        wanted = self._port if self.mapping is None else self.mapping.port
        try:
            by, grant = await router.map(wanted)
        except MappingError as error:
            _log.debug("no port mapping: the router %s: %s", router.gateway.address, error)
            self.error = error
            pause = max(self._backoff.pause(), _SHORTEST)
            if self.mapping is None:
                self.progress = Progress.FAILED
                return pause
            if (left := self.mapping.expires - time.monotonic()) > 0:
                return min(pause, left)
            self._set(None)
            self.progress = Progress.FAILED
            return pause
        self._granted(by, grant)
        return max(grant.lifetime / 2, _SHORTEST)

    def _look(self) -> Router | None:
        """The router to ask: the one that was asked before, unless the network is another since."""
        found = _find()
        if isinstance(found, Progress):
            self._router, self.progress = None, found
        elif self._router is None or self._router.gateway != found:
            self._set(None)  # it cannot be given back either: the router is out of reach
            self._router, self.progress = Router(found, self._port, self._lifetime), Progress.ASKING
            self._epoch = Epoch()
            self._backoff.restart()
        return self._router

    def _granted(self, by: By, grant: Grant) -> None:
        now = time.monotonic()
        if grant.epoch is not None:
            self._epoch.hear(grant.epoch, now)
        self._backoff.restart()
        self.progress, self.error = Progress.MAPPED, None
        self._set(Mapping(grant.address, grant.port, by, now + grant.lifetime))

    def _set(self, mapping: Mapping | None) -> None:
        before, self.mapping = self.mapping, mapping
        was = None if before is None else (before.address, before.port)
        now = None if mapping is None else (mapping.address, mapping.port)
        if was == now:
            return
        if mapping is not None:
            note = "" if mapping.public else ", which is not public: another NAT is in front of it"
            where = f"{mapping.address}:{mapping.port}"
            _log.info("the router leads its UDP port %s here, by %s%s", where, mapping.by.value, note)
        else:
            _log.info("the router leads no port here any more")
        self._changed()

    def _network_changed(self, network: socket.socket) -> None:
        drain(network)
        if _find() != (self.progress if self._router is None else self._router.gateway):
            self._wake()

    def _announced(self, sender: str, announced: Announced) -> None:
        router, mapping = self._router, self.mapping
        if router is None or sender != str(router.gateway.address):
            return
        same = mapping is not None and announced.address in (None, mapping.address)
        if not same or not self._epoch.fits(announced.epoch, time.monotonic()):
            self._wake()

    def _wake(self) -> None:
        if self._hints.take():
            self._hint.set()


def _find() -> Gateway | Progress:
    """The gateway, or why none can help: there is none, or this machine has a public address of its own."""
    try:
        found = default_gateway()
    except OSError as error:
        _log.debug("the default gateway is not known: %s", error)
        return Progress.NO_ROUTER
    if found is None or found.address.is_loopback:
        return Progress.NO_ROUTER
    return Progress.NOT_NEEDED if found.source.is_global else found
