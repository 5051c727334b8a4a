"""What happens at the limits, to the client that reaches one and to the others."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.end.world import Address, Services, soft_limit, told
from tests.inbound.http_client import response
from toxproxy.config.settings import LimitSettings
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.site import by_socks

pytestmark = pytest.mark.asyncio(loop_scope="session")

HALF_OPEN = 10_000
AT_ONCE = 200  # connections being opened at the same time
MOST = LimitSettings().connections
OTHERS = 100  # descriptors that do not belong to clients of the proxy port

SMALL_SERVER = "[access]\npermit = 127.0.0.1:*\n[limits]\nstreams = 3\n"
SMALL_CLIENT = "[limits]\nhandshake = 2\n[socks]\nbrowser = 0:TOXID\n"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PrivateNetwork]:
    """A server and a client with low limits."""
    folder = tmp_path_factory.mktemp("small")
    async with PrivateNetwork(folder, server=SMALL_SERVER, client=SMALL_CLIENT) as network:
        await network.connected()
        yield network


@pytest.fixture
def descriptors() -> Iterator[None]:
    with soft_limit():
        yield


async def says_hello(proxy: Address, echo: int) -> None:
    """Check that the proxy serves a new connection."""
    reader, writer = await by_socks(proxy, ("127.0.0.1", echo)).connect()
    try:
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
    finally:
        writer.close()


async def half_open(address: Address) -> socket.socket:
    """Connect and send only the first byte of SOCKS5."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    await loop.sock_connect(sock, address)
    await loop.sock_sendall(sock, b"\x05")
    return sock


@pytest.mark.usefixtures("descriptors")
async def test_ten_thousand_half_open_connections_keep_nobody_out(
    network: PrivateNetwork, services: Services
) -> None:
    proxy, echo = network.listener("browser"), services.echo.port
    sockets: list[socket.socket] = []
    served = 0

    async def be_served() -> None:
        nonlocal served
        while True:
            await says_hello(proxy, echo)
            served += 1

    reader, writer = await by_socks(proxy, ("127.0.0.1", echo)).connect()
    user = asyncio.create_task(be_served())
    try:
        async with asyncio.timeout(90):
            while len(sockets) < HALF_OPEN:
                sockets += await asyncio.gather(*(half_open(proxy) for _ in range(AT_ONCE)))
            assert served > 0
            await says_hello(proxy, echo)
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
        assert len(os.listdir(f"/proc/{network.client.pid}/fd")) <= MOST + OTHERS
    finally:
        user.cancel()
        await asyncio.wait((user,))
        writer.close()
        for sock in sockets:
            sock.close()
    lines = [line for line in network.client.log.read_text().splitlines() if "[limits] connections" in line]
    assert 1 <= len(lines) <= 3  # one a minute
    assert "the oldest one without a request is reset" in lines[0]


async def test_an_endless_http_header_is_answered_and_logged(small: PrivateNetwork) -> None:
    reader, writer = await asyncio.open_connection(*small.listener("browser"))
    writer.write(b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: a\r\nX: ")

    async def trickle() -> None:
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(30):
        head = await reader.readuntil(b"\r\n\r\n")
    trickling.cancel()
    writer.close()
    assert head.startswith(b"HTTP/1.1 408 ")
    await told(small.client, "an HTTP client did not finish its request within 2 s ([limits] handshake)")


async def test_streams_beyond_the_servers_limit_are_refused_in_the_protocol_of_the_client(
    small: PrivateNetwork, services: Services
) -> None:
    proxy, target = small.listener("browser"), ("127.0.0.1", services.echo.port)
    async with AsyncExitStack() as stack:
        for _ in range(3):
            _, writer = await by_socks(proxy, target).connect()
            stack.callback(writer.close)
        assert await refused_by_socks5(proxy, target) == b"\x05\x01"  # general SOCKS server failure
        status, head, body = await refused_by_http(proxy, target)
        assert status == 503
        assert b"error=connection_limit_reached" in head
        assert b"3 connections" in body
        await told(small.client, "refused: ")
    async with asyncio.timeout(30):
        while await refused_by_socks5(proxy, target) != b"\x05\x00":  # until the three have been closed
            await asyncio.sleep(0.05)


async def refused_by_socks5(proxy: Address, target: Address) -> bytes:
    """The first two bytes of the reply to a SOCKS5 request."""
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01" + socket.inet_aton(target[0]))
    writer.write(target[1].to_bytes(2, "big"))
    try:
        return (await reader.readexactly(12))[2:4]
    finally:
        writer.close()


async def refused_by_http(proxy: Address, target: Address) -> tuple[int, bytes, bytes]:
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(b"CONNECT %s:%d HTTP/1.1\r\nHost: a\r\n\r\n" % (target[0].encode(), target[1]))
    try:
        return await response(reader)
    finally:
        writer.close()
