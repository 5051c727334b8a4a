from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.end.world import Door, Pair, Services, World, running
from toxproxy.demo import PrivateNetwork


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(scope="package")
def services(world: World) -> Services:
    return world.services


@pytest.fixture(scope="package")
def network(world: World) -> PrivateNetwork:
    return world.network


@pytest.fixture(scope="package")
def door(world: World) -> Door:
    return world.door


@pytest.fixture(scope="package")
def pair(world: World) -> Pair:
    return world.pair
