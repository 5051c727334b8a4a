"""The TCP relays of the configuration: which of them libtoxcore is told, and when.

libtoxcore uses the first relay of a list that it keeps for each friend (`send_packet_tcp_connection` in
TCP_connection.c), and goes on to the next one where that is full or broken. It makes the list by itself,
in a random order (`tcp_copy_connected_relays`), from the relays that either end is connected to. So the
choice is made here, by what it is told: the quickest relay, and one more that is about as quick.

The list may have only the relay on which the two met, until each has told the other (`relay_sharing`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from toxproxy.address import join_host_port
from toxproxy.config.settings import BootstrapNode
from toxproxy.pace import Notice
from toxproxy.tox.pytox import Tox, ToxError

CHOSEN = 2  # relays: one, and another for when it fails; libtoxcore tells a friend of two before they meet
_SLOWER, _LATER = 2.0, 0.03  # times the quickest round trip, and seconds more: about as quick
_ANSWER = 5.0  # seconds that a relay has to accept a connection
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds between two tries, doubling

Peer = tuple[str, int]  # the address and the port of a relay

_log = logging.getLogger(__name__)


def choose(trips: dict[Peer, float]) -> list[Peer]:
    """The relays to use, best first, by their round trips in seconds. Pure."""
    best_first = sorted(trips, key=trips.__getitem__)
    most = min(trips.values(), default=0.0) * _SLOWER + _LATER
    return [peer for peer in best_first if trips[peer] <= most][:CHOSEN]


class Relays:
    """Keeps libtoxcore connected to the best of `nodes`, which are the user's own.

    `resolve` finds the addresses of a name, or raises `OSError`. `others` is called when no relay of
    `nodes` answers and libtoxcore is connected to none at all. `measures` is whether they
    can be reached without a proxy; otherwise all of them are used.
    """

    def __init__(
        self,
        tox: Tox,
        nodes: Sequence[BootstrapNode],
        resolve: Callable[[str], Awaitable[list[str]]],
        others: Callable[[], Awaitable[None]],
        *,
        measures: bool,
    ) -> None:
        self._tox = tox
        self._nodes = nodes
        self._resolve = resolve
        self._others = others
        self._measures = measures
        self._trips: dict[Peer, float] = {}
        self._keys: dict[Peer, str] = {}
        self._peers: frozenset[Peer] = frozenset()
        self._changed = asyncio.Event()
        self._failed = Notice(_log, logging.WARNING)

    def connected(self, peers: frozenset[Peer]) -> None:
        """libtoxcore is connected to these now, by TCP."""
        if peers != self._peers:
            self._peers = peers
            self._changed.set()

    async def run(self) -> None:
        """Run until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            self._changed.clear()
            if self._measures and (chosen := choose(self._trips)) and self._peers.issuperset(chosen):
                pause = _FIRST_PAUSE
                await self._changed.wait()
                continue
            await self._add()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause * random.uniform(0.75, 1.25))
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _add(self) -> None:
        """Look which relays answer, and tell libtoxcore of the best ones. It ignores those that it has."""
        async with asyncio.TaskGroup() as group:
            for node in self._nodes:
                group.create_task(self._look_at(node))
        for peer in choose(self._trips) if self._measures else list(self._trips):
            with suppress(ToxError):
                self._tox.add_tcp_relay(*peer, self._keys[peer])
        if not self._trips:
            self._failed("none of the relays in [tox] relays can be reached; trying again")
            if not self._peers:
                await self._others()

    async def _look_at(self, node: BootstrapNode) -> None:
        try:
            addresses = await self._resolve(node.host)
        except OSError as error:
            _log.debug("relay %s failed: %s", join_host_port(node.host, node.port), error)
            return
        for address in addresses:
            peer = address, node.port
            self._keys[peer] = node.key.hex()
            if peer in self._peers and peer in self._trips:
                continue  # it works, and its round trip is known
            self._trips.pop(peer, None)
            if (trip := await self._round_trip(peer)) is not None:
                self._trips[peer] = trip

    async def _round_trip(self, peer: Peer) -> float | None:
        """Seconds until a relay accepts a connection; None if it does not."""
        if not self._measures:
            return 0.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(_ANSWER):
                _, writer = await asyncio.open_connection(*peer)
        except (OSError, TimeoutError) as error:
            _log.debug("relay %s failed: %r", join_host_port(*peer), error)
            return None
        writer.close()
        return loop.time() - began
