"""What all listening ports have in common: addresses, limits, and how they end."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest

from tests.near.world import DirectDialer, Origin, connect, echo, forward, has_ipv6, until, unused_port
from toxproxy.address import Bind, Target
from toxproxy.errors import ToxproxyError
from toxproxy.forward import ForwardListener

SOMEWHERE = Target("127.0.0.1", 9)


async def test_a_port_in_use_is_named_in_the_error(dialer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = ForwardListener(forward(SOMEWHERE, Bind("127.0.0.1", port)), dialer)
        with pytest.raises(ToxproxyError) as error:
            await listener.start()
    assert str(error.value) == f"web: cannot listen on 127.0.0.1:{port}: address already in use"


async def test_an_address_that_is_not_this_machines_is_named_in_the_error(dialer):
    listener = ForwardListener(forward(SOMEWHERE, Bind("192.0.2.1", 0)), dialer)
    with pytest.raises(ToxproxyError, match=r"web: cannot listen on 192\.0\.2\.1:0: cannot assign"):
        await listener.start()


async def test_every_address_shares_one_free_port(dialer):
    listener = ForwardListener(forward(SOMEWHERE, Bind("", 0)), dialer)
    await listener.start()
    hosts, ports = zip(*(address.rsplit(":", 1) for address in listener.addresses), strict=True)
    assert hosts == (("0.0.0.0", "[::]") if has_ipv6() else ("0.0.0.0",))
    assert len(set(ports)) == 1
    await listener.close()


async def test_one_taken_family_is_an_error_not_half_a_listener(dialer):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        listener = ForwardListener(forward(SOMEWHERE, Bind("", port)), dialer)
        with pytest.raises(ToxproxyError, match=r"cannot listen on \*:"):
            await listener.start()
    with socket.create_server(("0.0.0.0", port)):  # nothing of it was left open
        pass


async def test_an_ipv6_listener_shows_its_address_in_brackets(dialer):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target, Bind("::1", 0)), dialer)
        await listener.start()
        assert listener.addresses[0].startswith("[::1]:")
        reader, writer = await connect(listener)
        writer.write(b"six")
        assert await reader.readexactly(3) == b"six"
        writer.close()
        await listener.close()


async def test_connections_are_counted_until_they_are_over(dialer):
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), dialer)
        await listener.start()
        clients = [await connect(listener) for _ in range(3)]
        for reader, writer in clients:
            writer.write(b"x")
            await reader.readexactly(1)
        assert listener.connections == 3
        for _, writer in clients:
            writer.close()
        await until(lambda: listener.connections == 0)
        await listener.close()


async def test_closing_lets_connections_end_and_takes_no_more(dialer):
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), dialer)
        await listener.start()
        reader, writer = await connect(listener)
        writer.write(b"before")
        await reader.readexactly(6)
        await listener.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(listener)
        writer.write(b"after")
        writer.write_eof()
        assert await reader.read() == b"after"
        await listener.drain(5)
        assert listener.connections == 0
        writer.close()


async def test_draining_resets_what_does_not_end(dialer):
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), dialer)
        await listener.start()
        reader, writer = await connect(listener)
        writer.write(b"x")
        await reader.readexactly(1)
        await listener.close()
        await listener.drain()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert all(transport.is_closing() for transport in dialer.open)
        writer.close()


async def test_too_many_waiting_clients_are_reset_and_the_first_ones_served(dialer):
    async with Origin(echo) as server:
        dialer.gate.clear()
        listener = ForwardListener(forward(server.target), dialer, max_pending=2)
        await listener.start()
        patient = [await connect(listener) for _ in range(2)]
        await until(lambda: len(dialer.dialled) == 2)
        reader, hasty = await connect(listener)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        dialer.gate.set()
        for reader, writer in patient:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        reader, late = await connect(listener)  # the others wait no longer
        late.write(b"y")
        assert await reader.readexactly(1) == b"y"
        for writer in (late, hasty, *(writer for _, writer in patient)):
            writer.close()
        await listener.close()


async def test_small_answers_leave_at_once(dialer):
    seen: list[int] = []

    class Watching(ForwardListener):
        async def serve(self, client):
            sock = client.transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    listener = Watching(forward(SOMEWHERE), dialer)
    await listener.start()
    _, writer = await connect(listener)
    await until(lambda: bool(seen))
    assert seen[0]
    writer.close()
    await listener.close()


async def test_running_out_of_descriptors_does_not_end_the_listener(dialer: DirectDialer):
    dialer.gate.clear()  # so that each connection costs one descriptor
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio reports EMFILE there
    listener = ForwardListener(forward(Target("127.0.0.1", unused_port())), dialer)
    await listener.start()
    port = int(listener.addresses[0].rpartition(":")[2])
    clients = [socket.socket() for _ in range(6)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(sock.fileno() for sock in clients) + 3, hard))
    try:
        for sock in clients:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
        await until(lambda: listener.connections > 0)
        served = listener.connections
        assert served < 6
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    _, writer = await connect(listener)
    await until(lambda: listener.connections > served)  # asyncio accepts again after a second
    for sock in clients:
        sock.close()
    writer.close()
    await listener.close()
    await listener.drain()
