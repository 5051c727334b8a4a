"""Paths in virtual time: one `Direction` of a path says when a packet arrives, or that it does not.

A direction delays, jitters, reorders and loses packets, alone or in bursts; it polices with a token
bucket, and has a bottleneck with a queue, whose rate is constant or follows delivery opportunities.
The rate and the delay may change at given times. Several flows may share a direction.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from toxproxy.recovery.sent import OVERHEAD, PACKET_SIZE

MBIT = 1e6 / 8  # bytes per second
KB = 1024
PACKET = PACKET_SIZE + OVERHEAD  # bytes of a full packet on the wire …
USE = 1332 / PACKET  # … and the share of a stream's bytes in it
_OPPORTUNITY = 1500  # bytes that a delivery opportunity of a trace takes
_LONGEST_BAD = 2.0  # seconds that a burst of losses lasts, if too few packets come to end it
_REDRAWN = 0.02  # seconds after which the jitter is another one


@dataclass(frozen=True)
class Way:
    """What one direction of a path does. Seconds, bytes, bytes per second, shares of 1."""

    delay: float = 0.0
    jitter: float = 0.0  # on top of the delay, at random up to this; packets stay in order
    reorder: float = 0.0  # share of packets that come late by the jitter and 5 ms
    loss: float = 0.0
    burst: tuple[float, float] = (0.0, 0.0)  # Gilbert-Elliott: enter and leave the state that loses all
    rate: float = 0.0  # 0: no bottleneck
    queue: float = 0.0  # before the bottleneck; 0: without end
    police: tuple[float, float] = (0.0, 0.0)  # rate and bucket
    trace: tuple[float, ...] = field(default=(), repr=False)  # times of opportunities, repeated


class Direction:
    """One direction of a path, from virtual time 0 on. `changes` are other ways from a time on."""

    def __init__(self, way: Way, seed: int = 1, changes: Iterable[tuple[float, Way]] = ()) -> None:
        self._random = random.Random(seed)
        self._changes = deque(sorted(changes, key=lambda change: change[0]))
        self._bad, self._bad_since = False, 0.0
        self._tokens, self._tokens_at = way.police[1], 0.0
        self._jitter, self._jitter_at = 0.0, -1.0
        self._last_at = 0.0
        self._free_at = 0.0  # when the bottleneck has sent all that is queued
        self._queued: deque[tuple[float, int]] = deque()  # when each packet leaves the bottleneck; its size
        self._queue_bytes = 0
        self._index, self._room = 0, _OPPORTUNITY
        self._next_change = self._changes[0][0] if self._changes else float("inf")
        self.cuts: list[tuple[float, float]] = []  # when everything is lost
        self.sent_bytes = self.dropped_bytes = 0  # dropped: by the policer or the queue
        self._set(way)

    def _set(self, way: Way) -> None:
        self.way = way
        self._rolls = bool(way.loss or way.burst[0])

    def carry(self, now: float, size: int) -> float | None:
        """When a packet of `size` bytes arrives that is sent `now`; None if it does not."""
        while now >= self._next_change:
            self._set(self._changes.popleft()[1])
            self._next_change = self._changes[0][0] if self._changes else float("inf")
        way = self.way
        self.sent_bytes += size
        if self._rolls and self._lost(now, way):
            return None
        if self.cuts and any(begin <= now < end for begin, end in self.cuts):
            return None
        left = now
        if way.police[0] and not self._within(now, size, way):
            self.dropped_bytes += size
            return None
        if way.rate or way.trace:
            queued = self._queued
            while queued and queued[0][0] <= now:
                self._queue_bytes -= queued.popleft()[1]
            if way.queue and self._queue_bytes + size > way.queue:
                self.dropped_bytes += size
                return None
            left = self._traced(now, size) if way.trace else self._timed(now, size)
            queued.append((left, size))
            self._queue_bytes += size
        at = left + way.delay
        if way.jitter:
            if now - self._jitter_at > _REDRAWN:
                self._jitter, self._jitter_at = self._random.random() * way.jitter, now
            at += self._jitter
        if way.reorder and self._random.random() < way.reorder:
            return at + way.jitter + 0.005
        at = self._last_at = max(at, self._last_at)
        return at

    def _lost(self, now: float, way: Way) -> bool:
        enter, leave = way.burst
        if enter and self._random.random() < (leave if self._bad else enter):
            self._bad, self._bad_since = not self._bad, now
        if self._bad and now - self._bad_since > _LONGEST_BAD:
            self._bad = False
        return self._bad or bool(way.loss and self._random.random() < way.loss)

    def _within(self, now: float, size: int, way: Way) -> bool:
        rate, bucket = way.police
        self._tokens = min(bucket, self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        if self._tokens < size:
            return False
        self._tokens -= size
        return True

    def _timed(self, now: float, size: int) -> float:
        """The last byte leaves; what is queued when the rate changes leaves at the new rate."""
        begin = max(self._free_at, now)
        end = begin + size / self.way.rate
        if self._changes and end > self._next_change and self._changes[0][1].rate:
            rest = size - max(0.0, self._next_change - begin) * self.way.rate
            end = max(begin, self._next_change) + rest / self._changes[0][1].rate
        self._free_at = end
        return end

    def _traced(self, now: float, size: int) -> float:
        trace = self.way.trace
        period = trace[-1]
        while True:
            lap, place = divmod(self._index, len(trace))
            when = lap * period + trace[place]
            if when < now - 0.001:
                self._index, self._room = self._index + 1, _OPPORTUNITY
            elif self._room >= size:
                self._room -= size
                return max(when, now)
            else:
                size -= self._room
                self._index, self._room = self._index + 1, _OPPORTUNITY


def wandering(
    seed: int, mean: float, least: float, most: float, seconds: float = 60.0, swing: float = 0.3
) -> tuple[float, ...]:
    """Delivery opportunities of a mobile link whose rate wanders (bytes per second), with short outages.

    The logarithm of the rate walks at random every 100 ms, drawn back to the mean; now and then the link
    is silent for up to half a second, as in a handover.
    """
    rng, log = random.Random(seed), 0.0
    times: list[float] = []
    now, credit = 0.0, 0.0
    while now < seconds:
        log = 0.95 * log + rng.gauss(0, swing)
        rate = min(max(mean * 2.718281828**log, least), most)
        silent = rng.random() < 0.01
        length = 0.1 + (rng.random() * 0.4 if silent else 0.0)
        slots = round(length / 0.001)
        for slot in range(slots):
            if silent and slot < slots - 100:
                continue
            credit += rate * 0.001
            while credit >= _OPPORTUNITY:
                times.append(round(now + slot * 0.001, 3))
                credit -= _OPPORTUNITY
        now += length
    return tuple(times)


@dataclass(frozen=True)
class Path:
    """Both directions: `down` is what the tests fill."""

    down: Way
    up: Way

    @property
    def round_trip(self) -> float:
        return self.down.delay + self.up.delay


def both(way: Way) -> Path:
    return Path(way, way)


def recorded(lines: Sequence[str]) -> tuple[float, ...]:
    """The opportunities of a trace as mahimahi writes it: a line is a time in ms."""
    return tuple(int(line) / 1000 for line in lines if line.strip())


POLICED = both(Way(delay=0.06, police=(20 * MBIT, 60 * KB)))
SHALLOW = both(Way(delay=0.04, rate=100 * MBIT, queue=40 * KB))
WIFI = both(Way(delay=0.01, jitter=0.025, loss=0.005, rate=60 * MBIT, queue=500 * KB, reorder=0.005))
BURST = both(Way(delay=0.04, rate=50 * MBIT, queue=500 * KB, burst=(0.001, 0.08)))
WAN = both(Way(delay=0.025, rate=100 * MBIT, queue=600 * KB, loss=0.01))
DEEP = both(Way(delay=0.025, rate=20 * MBIT, queue=2500 * KB))
SLOW = both(Way(delay=0.15, rate=8 * MBIT, queue=200 * KB, loss=0.02))
ADSL = Path(Way(delay=0.015, rate=16 * MBIT, queue=400 * KB), Way(delay=0.015, rate=1 * MBIT, queue=64 * KB))
# As a TCP relay: nothing is lost, everything waits.
RELAY = both(Way(delay=0.04, rate=30 * MBIT, queue=8000 * KB))
FAR = both(Way(delay=0.025))


def lte(seed: int = 1) -> Path:
    """A phone in a moving car: 4 Mbit/s on average, from 0.3 to 15."""
    way = Way(delay=0.02, queue=600 * KB, trace=wandering(seed, 3.5 * MBIT, 0.3 * MBIT, 15 * MBIT))
    return Path(way, replace(way, trace=wandering(seed + 100, 3 * MBIT, 0.3 * MBIT, 10 * MBIT)))


def umts(seed: int = 1) -> Path:
    """The same, 3G: 1.5 Mbit/s on average."""
    way = Way(delay=0.04, queue=300 * KB, trace=wandering(seed, 1.7 * MBIT, 0.1 * MBIT, 4 * MBIT, swing=0.2))
    return Path(
        way, replace(way, queue=150 * KB, trace=wandering(seed + 100, 0.9 * MBIT, 0.1 * MBIT, 2 * MBIT))
    )
