"""The gates of a meter, in a time of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from fuzz import scene
from toxproxy.tunnel.meter import Gate, Meter

RATE = 1 << 20
BULK, KEYSTROKE = 256 * 1024, 100
Scene = Callable[[], Coroutine[Any, Any, None]]


def limited(rate: int) -> Gate:
    gate = Gate()
    gate.limit(rate)
    return gate


class Stream:
    """Wants to pass more than there is room for; each piece is what a socket has at once."""

    def __init__(self, gate: Gate, piece: int = BULK) -> None:
        self.gate = gate
        self.piece = piece
        self.carried = 0
        self.waits = False
        self.stopped = False

    def run(self) -> None:
        self.waits = False
        while not self.stopped:
            if not (room := self.gate.room(self.piece, self.run)):
                self.waits = True
                self.gate.wait(self.piece, self.run)
                return
            self.gate.passed(room, self.run)
            self.carried += room


async def keystroke(gate: Gate) -> float:
    """How long one waits."""
    loop = asyncio.get_running_loop()
    began, done = loop.time(), asyncio.Event()
    while not gate.room(KEYSTROKE, done.set):
        gate.wait(KEYSTROKE, done.set)
        await done.wait()
        done.clear()
    gate.passed(KEYSTROKE, done.set)
    return loop.time() - began


def in_virtual_time(test: Scene) -> Callable[[], None]:
    def run() -> None:
        scene.run(test(), virtual=True)

    run.__name__ = test.__name__
    return run


@pytest.mark.parametrize("rate", [8 << 10, 100_000, RATE, 100 << 20, 1 << 30])
@pytest.mark.parametrize("count", [1, 3, 100])
def test_the_rate_holds_for_ten_seconds_and_streams_share_it(rate: int, count: int) -> None:
    async def played() -> None:
        gate = limited(rate)
        streams = [Stream(gate) for _ in range(count)]
        for each in streams:
            each.run()
        await asyncio.sleep(10)
        total = sum(each.carried for each in streams)
        piece = 16 * 1024 + BULK  # what is saved at first, and what one piece may be too large
        assert total == pytest.approx(10 * rate, rel=0.05, abs=piece)
        if 10 * rate > count * 64 * 1024:
            carried = sorted(each.carried for each in streams)
            assert carried[-1] < 2 * carried[0] + rate / 8 + BULK  # the first one found what was saved
        for each in streams:
            each.stopped = True
        gate.limit(None)

    scene.run(played(), virtual=True)


@in_virtual_time
async def test_a_keystroke_beside_bulk_does_not_wait() -> None:
    gate = limited(RATE)
    bulk = [Stream(gate) for _ in range(8)]
    for each in bulk:
        each.run()
    delays = []
    for _ in range(100):
        await asyncio.sleep(0.05)
        delays.append(await keystroke(gate))
    assert sorted(delays)[94] == 0
    assert max(delays) < 0.01
    for each in bulk:
        each.stopped = True
    gate.limit(None)


@in_virtual_time
async def test_many_streams_that_begin_at_once_do_not_cost_a_keystroke_its_turn() -> None:
    gate = limited(RATE)
    await asyncio.sleep(1)
    many = [Stream(gate, piece=4096) for _ in range(2000)]
    for each in many:
        each.run()
    assert await keystroke(gate) < 0.05
    await asyncio.sleep(1)
    assert sum(each.carried for each in many) <= 1.3 * RATE
    for each in many:
        each.stopped = True
    gate.limit(None)


@in_virtual_time
async def test_a_short_exchange_after_a_pause_goes_at_once() -> None:
    gate = limited(RATE)
    await asyncio.sleep(5)
    page = Stream(gate, piece=RATE // 10)
    page.run()
    assert page.carried >= RATE // 10
    page.stopped = True
    gate.limit(None)


@in_virtual_time
async def test_datagrams_and_streams_that_wait_both_go_on() -> None:
    gate = limited(RATE)
    bulk = Stream(gate)
    bulk.run()
    datagrams = 0
    for _ in range(10_000):  # a flood, three times the rate, for ten seconds
        await asyncio.sleep(0.001)
        for _ in range(3):
            datagrams += 1000 * gate.takes(bytes(1000))
    assert bulk.carried + datagrams == pytest.approx(10 * RATE, rel=0.05)
    assert bulk.carried > 3 * RATE
    assert datagrams > 3 * RATE
    delay = await keystroke(gate)
    assert delay < 0.05
    bulk.stopped = True
    gate.limit(None)


@in_virtual_time
async def test_another_rate_lets_go_who_waits() -> None:
    meter = Meter()
    assert meter.up.takes(b"x")
    assert meter.down.takes(b"x")
    meter.limit(RATE, RATE)
    waiting = [Stream(gate) for gate in (meter.down, meter.up)]
    for each in waiting:
        each.run()
    await asyncio.sleep(1)
    assert all(each.waits for each in waiting)
    for each in waiting:
        each.stopped = True
    meter.limit(None, None)
    assert not any(each.waits for each in waiting)
    assert all(each.gate.room(BULK, each.run) == BULK for each in waiting)


@in_virtual_time
async def test_every_byte_is_counted_for_a_quota() -> None:
    meter, counted = Meter(), []
    meter.tell(counted.append)
    meter.down.passed(1, list)
    meter.up.passed(2, list)
    assert meter.up.takes(b"abc")
    assert meter.down.takes(b"abcd")
    meter.limit(8 << 10, 8 << 10)
    for _ in range(100):
        meter.up.takes(bytes(1000))
    assert counted[:4] == [1, 2, 3, 4]
    assert sum(counted[4:]) <= 17_000  # what is dropped does not count
