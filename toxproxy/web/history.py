"""The last ten minutes of each peer, a sample a second.

Samples are taken while somebody looks, and for ten minutes after: without an onlooker nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from toxproxy.control.snapshots import PeerSnapshot

SECONDS = 600
MOST_PEERS = 64  # with samples; those that are connected come first

_FIELDS = ("sent_bytes", "received_bytes", "rtt_us", "queue_us", "sent_packets", "lost_packets")
_Sample = tuple[float, Mapping[str, tuple[int | None, ...]]]  # when, and the fields of each peer by key


class History:
    """`peers` tells how they are now."""

    def __init__(self, peers: Callable[[], Iterable[PeerSnapshot]]) -> None:
        self._peers = peers
        self._samples: deque[_Sample] = deque(maxlen=SECONDS)
        self._looked_at = 0.0
        self._sampling: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        """Whether samples are being taken."""
        return self._sampling is not None and not self._sampling.done()

    def looked(self) -> None:
        """Somebody looks now."""
        self._looked_at = time.monotonic()
        if not self.running:
            self._sampling = asyncio.create_task(self._sample(), name="history")

    def encoded(self) -> object:
        """The columns of each peer, by its key. Times are in microseconds; null is: not known."""
        columns: dict[str, dict[str, list[float | None]]] = {}
        oldest = time.time() - SECONDS
        for at, peers in self._samples:
            if at < oldest:
                continue
            for key, values in peers.items():
                column = columns.setdefault(key, {name: [] for name in ("unix_s", *_FIELDS)})
                for name, value in zip(("unix_s", *_FIELDS), (at, *values), strict=True):
                    column[name].append(value)
        return {"peers": columns}

    async def close(self) -> None:
        """Take no more."""
        if self._sampling is not None:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling

    async def _sample(self) -> None:
        while time.monotonic() - self._looked_at < SECONDS:
            chosen = sorted(self._peers(), key=lambda peer: not peer.ready)[:MOST_PEERS]
            self._samples.append((round(time.time(), 3), {peer.key: _values(peer) for peer in chosen}))
            await asyncio.sleep(1)
        self._samples.clear()


def _values(peer: PeerSnapshot) -> tuple[int | None, ...]:
    traffic, link = peer.traffic, peer.link
    if link is None:
        return (traffic.sent_bytes, traffic.received_bytes, None, None, None, None)
    return (
        traffic.sent_bytes,
        traffic.received_bytes,
        _us(link.rtt_ms),
        _us(link.queue_ms),
        link.sent_packets,
        link.lost_packets,
    )


def _us(ms: float | None) -> int | None:
    return None if ms is None else round(ms * 1000)
