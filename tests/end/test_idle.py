"""The processor time of idle connections."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from statistics import median

import pytest

from tests.end.world import proc
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import Process

pytestmark = pytest.mark.asyncio(loop_scope="session")

STREAMS = 10
WINDOW = 5.0  # seconds of one measurement
WINDOWS = 3  # measurements, of which the median counts: something else may disturb one


def processor_seconds(process: Process) -> float:
    """The processor time that a process has used, in user and kernel mode."""
    (line,) = proc(process, "stat")
    fields = line.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_ten_idle_connections_cost_less_than_a_hundredth_of_a_core(network: PrivateNetwork) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(STREAMS):
            reader, writer = await asyncio.open_connection(*network.listener("echo"))
            stack.callback(writer.close)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
        processes = network.server, network.client
        used: list[list[float]] = [[] for _ in processes]
        for _ in range(WINDOWS):
            before = [processor_seconds(process) for process in processes]
            await asyncio.sleep(WINDOW)
            for process, began, times in zip(processes, before, used, strict=True):
                times.append(processor_seconds(process) - began)
    for times in used:
        assert median(times) < 0.01 * WINDOW, times
