from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.end import world
from tests.end.world import Door, Pair, Services
from toxproxy.demo import PrivateNetwork

shared = pytest_asyncio.fixture(scope="package", loop_scope="session")


@shared
async def services() -> AsyncIterator[Services]:
    async with world.serving() as services:
        yield services


@shared
async def network(
    services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PrivateNetwork]:
    async with world.networking(tmp_path_factory.mktemp("network"), services) as network:
        yield network


@shared
async def door(
    services: Services, network: PrivateNetwork, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Door]:
    async with world.waiting(tmp_path_factory.mktemp("door"), services, network) as door:
        yield door


@shared
async def pair(services: Services, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    async with world.pairing(tmp_path_factory.mktemp("pair"), services) as pair:
        yield pair
