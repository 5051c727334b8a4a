"""Two processes that find each other, and what they make of the machine they are on."""

from __future__ import annotations

import os

import pytest

from tests.end.world import FEW_DESCRIPTORS, event_time, proc
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_client_is_connected_within_15_seconds_of_its_start(network: PrivateNetwork) -> None:
    began = os.stat(network.client.config).st_mtime  # it is written just before the process is started
    assert event_time(network.client, "ready") - began < 15


async def test_a_process_allows_itself_as_many_connections_as_it_may(network: PrivateNetwork) -> None:
    for process in (network.server, network.client):
        (line,) = (line for line in proc(process, "limits") if line.startswith("Max open files"))
        *_, soft, hard, _ = line.split()
        assert soft == hard
        assert hard != str(FEW_DESCRIPTORS)
