"""Signals that end the blocks of a running program, one after the other."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from toxproxy.program.interrupts import Interrupts


async def test_each_signal_ends_one_block() -> None:
    ended = []
    with Interrupts() as interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            async with interrupts.ending():
                os.kill(os.getpid(), number)
                await asyncio.sleep(20)
                ended.append("not reached")
            ended.append(number.name)
    assert ended == ["SIGINT", "SIGTERM"]


async def test_a_signal_between_two_blocks_ends_the_next() -> None:
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        async with interrupts.ending():
            await asyncio.sleep(20)
            pytest.fail("the block was not ended")


async def test_two_signals_at_once_end_two_blocks() -> None:
    with Interrupts() as interrupts:
        async with interrupts.ending():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(20)
        async with interrupts.ending():
            await asyncio.sleep(20)
            pytest.fail("the block was not ended")


async def test_a_block_may_end_by_itself_or_fail_with_a_timeout_of_its_own() -> None:
    with Interrupts() as interrupts:
        async with interrupts.ending():
            pass
        with pytest.raises(TimeoutError):
            async with interrupts.ending():
                raise TimeoutError


async def test_sighup_reloads_where_there_is_something_to_reload_and_ends_the_block_where_not() -> None:
    reloaded = asyncio.Event()
    with Interrupts(reloaded.set) as interrupts:
        async with interrupts.ending():
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(10):
                await reloaded.wait()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(20)
            pytest.fail("SIGTERM did not end the block")
    with Interrupts() as interrupts:
        async with interrupts.ending():
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(20)
            pytest.fail("SIGHUP did not end the block")
