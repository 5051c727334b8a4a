"""Two processes that find each other, and what they make of the machine they are on."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from tests.end.world import FEW_DESCRIPTORS
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_client_is_connected_within_15_seconds_of_its_start(network: PrivateNetwork) -> None:
    records = [json.loads(line) for line in network.client.log.read_text().splitlines()]
    (ready,) = (record for record in records if record.get("event") == "ready")
    began = network.client.config.stat().st_mtime  # written just before the process is started
    assert datetime.fromisoformat(ready["time"]).timestamp() - began < 15


async def test_a_process_allows_itself_as_many_connections_as_it_may(network: PrivateNetwork) -> None:
    for process in (network.server, network.client):
        limits = Path(f"/proc/{process.pid}/limits").read_text().splitlines()
        (line,) = (line for line in limits if line.startswith("Max open files"))
        *_, soft, hard, _ = line.split()
        assert soft == hard
        assert hard != str(FEW_DESCRIPTORS)
