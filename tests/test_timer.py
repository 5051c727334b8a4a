"""The timer."""

from __future__ import annotations

import asyncio

from toxproxy.timer import Seldom, Timer


async def test_it_calls_once_when_it_is_due() -> None:
    calls: list[float] = []
    loop = asyncio.get_running_loop()
    timer = Timer(lambda: calls.append(loop.time()))
    assert not timer.running
    timer.set(0.01)
    due = timer.due
    assert timer.running
    await asyncio.sleep(0.05)
    assert len(calls) == 1
    assert calls[0] >= due - 0.001
    assert not timer.running


async def test_it_is_set_again_earlier_and_later() -> None:
    calls: list[None] = []
    timer = Timer(lambda: calls.append(None))
    for seconds in (60, 0.02, 60, 0.01):
        timer.set(seconds)
    await asyncio.sleep(0.05)
    assert len(calls) == 1


async def test_a_timer_that_is_stopped_does_not_call_until_it_is_set() -> None:
    calls: list[None] = []
    timer = Timer(lambda: calls.append(None))
    timer.set(0)
    timer.stop()
    assert not timer.running
    await asyncio.sleep(0.02)
    assert not calls
    timer.set_at(asyncio.get_running_loop().time())
    await asyncio.sleep(0.02)
    assert len(calls) == 1


async def test_it_may_be_set_from_its_call() -> None:
    calls: list[None] = []

    def call() -> None:
        calls.append(None)
        if len(calls) < 3:
            timer.set(0)

    timer = Timer(call)
    timer.set(0)
    await asyncio.sleep(0.05)
    assert len(calls) == 3
    assert not timer.running


async def test_what_is_done_seldom_is_done_once_for_many_requests_and_not_soon_again() -> None:
    loop = asyncio.get_running_loop()
    calls: list[float] = []
    seldom = Seldom(lambda: calls.append(loop.time()), 0.01, 0.2)
    for _ in range(3):
        seldom.soon()
    await asyncio.sleep(0.05)
    assert len(calls) == 1
    seldom.soon()
    async with asyncio.timeout(10):
        while len(calls) < 2:
            await asyncio.sleep(0.01)
    assert calls[1] - calls[0] >= 0.199
    seldom.soon()
    assert seldom.stop()
    assert not seldom.stop()
    await asyncio.sleep(0.25)
    assert len(calls) == 2
