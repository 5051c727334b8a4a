"""How fast two processes connect, and the limits that they set for themselves."""

from __future__ import annotations

import os

import pytest

from tests.end.world import FEW_DESCRIPTORS, event_time, proc
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_client_is_connected_within_half_a_minute_of_its_start(network: PrivateNetwork) -> None:
    began = os.stat(network.client.config).st_mtime  # the file is written just before the start
    assert event_time(network.client, "ready") - began < 30  # ten, on a machine that is not busy


async def test_a_process_raises_its_limit_of_open_files(network: PrivateNetwork) -> None:
    for process in (network.server, network.client):
        (line,) = (line for line in proc(process, "limits") if line.startswith("Max open files"))
        *_, soft, hard, _ = line.split()
        assert soft == hard
        assert hard != str(FEW_DESCRIPTORS)
