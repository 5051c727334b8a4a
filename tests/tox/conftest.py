from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.tox.pair import Pair, private_pair, relayed_pair


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def pairs(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Pair, Pair]]:
    """A direct and a relayed pair. Each needs about ten seconds, so both are made at the same time."""
    async with AsyncExitStack() as stack:
        direct, relayed = await asyncio.gather(
            stack.enter_async_context(
                private_pair(tmp_path_factory.mktemp("direct"), (b"wrong", b"let me in"))
            ),
            stack.enter_async_context(relayed_pair(tmp_path_factory.mktemp("relayed"))),
        )
        yield direct, relayed


@pytest.fixture(scope="package")
def direct(pairs: tuple[Pair, Pair]) -> Pair:
    return pairs[0]


@pytest.fixture(scope="package")
def relayed(pairs: tuple[Pair, Pair]) -> Pair:
    return pairs[1]
