from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.inbound.http_origin import HttpOrigin
from tests.inbound.peers import DirectDialer, proxy
from toxproxy.socks import ProxyListener


@pytest.fixture
async def dialer() -> DirectDialer:
    return DirectDialer()


@pytest.fixture
async def port(dialer: DirectDialer) -> AsyncIterator[ProxyListener]:
    """A proxy port without a password."""
    listener = ProxyListener(proxy(), dialer)
    await listener.start()
    yield listener
    await listener.close()
    await listener.drain()


@pytest.fixture
async def locked_port(dialer: DirectDialer) -> AsyncIterator[ProxyListener]:
    """A proxy port for the user alice with the password secret."""
    listener = ProxyListener(proxy("alice", "sécret"), dialer)
    await listener.start()
    yield listener
    await listener.close()
    await listener.drain()


@pytest.fixture
async def origin() -> AsyncIterator[HttpOrigin]:
    async with HttpOrigin() as server:
        yield server
