"""Large transfers."""

from __future__ import annotations

import asyncio

import pytest

from tests.end.services import order
from tests.end.world import proc
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIFTY = 50_000_000  # bytes
MEMORY = 150_000  # KiB


@pytest.mark.timeout(300)
async def test_four_transfers_of_50_mb_each_way_arrive_whole_within_bounded_memory(
    network: PrivateNetwork,
) -> None:
    forward = network.listener("exchange")
    async with asyncio.timeout(280), asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(order(forward, 2 * number, down=FIFTY, up=FIFTY))
    for process in (network.server, network.client):
        (peak,) = (int(line.split()[1]) for line in proc(process, "status") if line.startswith("VmHWM:"))
        assert peak < MEMORY, process.name
