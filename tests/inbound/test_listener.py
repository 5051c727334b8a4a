"""What all listeners have in common: addresses, limits, and how they close."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from tests.descriptors import limited
from tests.inbound.peers import DirectDialer, Origin, connect, echo, forward, proxy, until
from tests.machine import has_ipv6
from tests.ports import unused_port
from toxproxy.address import Bind, Target
from toxproxy.config.settings import LimitSettings
from toxproxy.errors import Refusal, StreamRefused, ToxproxyError
from toxproxy.forward import ForwardListener
from toxproxy.inbound import listener as listener_module
from toxproxy.inbound.listener import Listener
from toxproxy.socks import ProxyListener
from toxproxy.system.descriptors import SPARE

SOMEWHERE = Target("127.0.0.1", 9)


async def test_a_port_in_use_is_named_in_the_error(dialer):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listener = ForwardListener(forward(SOMEWHERE, Bind("127.0.0.1", port)), dialer)
        with pytest.raises(ToxproxyError) as error:
            await listener.start()
    assert str(error.value) == f"web: cannot listen on 127.0.0.1:{port}: address already in use"


async def test_an_address_of_another_machine_is_named_in_the_error(dialer):
    listener = ForwardListener(forward(SOMEWHERE, Bind("192.0.2.1", 0)), dialer)
    with pytest.raises(ToxproxyError, match=r"web: cannot listen on 192\.0\.2\.1:0: cannot assign"):
        await listener.start()


async def test_keepalive_notices_a_client_that_vanished(dialer):
    class Curious(Listener):
        async def serve(self, client):
            sock = client.transport.get_extra_info("socket")
            idle, every, most = (
                sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"))
                for name in ("IDLE", "INTVL", "CNT")
            )
            on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            asked.set_result((on, idle + every * most))

    asked = asyncio.get_running_loop().create_future()
    listener = Curious("web", Bind("127.0.0.1", 0), dialer)
    await listener.start()
    _, writer = await connect(listener)
    on, seconds = await asked
    assert on
    assert seconds <= 180
    writer.close()
    await listener.close()
    await listener.drain()


async def test_all_addresses_share_one_free_port(dialer):
    listener = ForwardListener(forward(SOMEWHERE, Bind("", 0)), dialer)
    await listener.start()
    hosts, ports = zip(*(address.rsplit(":", 1) for address in listener.addresses), strict=True)
    assert hosts == (("0.0.0.0", "[::]") if has_ipv6("::") else ("0.0.0.0",))
    assert len(set(ports)) == 1
    await listener.close()


async def test_a_port_taken_in_one_address_family_is_an_error(dialer):
    if not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with socket.create_server(("::", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        listener = ForwardListener(forward(SOMEWHERE, Bind("", port)), dialer)
        with pytest.raises(ToxproxyError, match=r"cannot listen on \*:"):
            await listener.start()
    with socket.create_server(("0.0.0.0", port)):  # the failed listener has left nothing open
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


async def test_connections_are_counted_until_they_end(dialer):
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


async def test_a_closing_listener_accepts_no_more_and_waits_for_its_connections(dialer):
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


async def test_connections_that_do_not_end_in_time_are_reset(dialer):
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


async def test_a_client_beyond_the_limit_waits_until_another_one_ends(dialer, caplog):
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), dialer, LimitSettings(connections=2))
        await listener.start()
        first, second, third = [await connect(listener) for _ in range(3)]
        for reader, writer in (first, second):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        third[1].write(b"y")
        await until(lambda: "2 connections are open" in caplog.text)
        assert listener.connections == len(dialer.dialled) == 2
        first[1].close()
        assert await third[0].readexactly(1) == b"y"
        assert listener.connections == 2
        for _, writer in (second, third):
            writer.close()
        await listener.close()
    assert caplog.messages == [
        "web: 2 connections are open ([limits] connections): "
        "the oldest one without a request is reset; if there is none, new ones wait"
    ]


async def test_a_waiting_client_is_reset_when_the_listener_closes(dialer, caplog):
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), dialer, LimitSettings(connections=1))
        await listener.start()
        first, second = [await connect(listener) for _ in range(2)]
        second[1].write(b"y")
        await until(lambda: "1 connections are open" in caplog.text)
        await listener.close()
        with pytest.raises(ConnectionResetError):
            await second[0].readexactly(1)
        first[1].write(b"x")
        assert await first[0].readexactly(1) == b"x"
        await listener.drain()
        for _, writer in (first, second):
            writer.close()


async def test_clients_that_have_asked_for_nothing_make_room_for_new_ones(dialer, caplog):
    async with Origin(echo) as server:
        listener = ProxyListener(proxy(), dialer, LimitSettings(connections=20))
        await listener.start()
        tunnel_reader, tunnel_writer = await connect(listener)
        await socks_tunnel(tunnel_reader, tunnel_writer, server.target)
        silent = []
        for number in range(200):
            silent.append(await connect(listener))
            silent[-1][1].write(b"\x05\x01"[: number % 3])
        await until(lambda: silent[180][0].at_eof() or silent[180][0].exception() is not None)
        reader, writer = await connect(listener)
        await socks_tunnel(reader, writer, server.target)
        assert listener.connections <= 20
        for each in (tunnel_reader, tunnel_writer), (reader, writer):
            each[1].write(b"still here")
            assert await each[0].readexactly(10) == b"still here"
        assert silent[-1][0].exception() is None  # the newest client is not closed first
        for _, each in silent:
            each.close()
        writer.close()
        tunnel_writer.close()
        await listener.close()
        await listener.drain()
    assert caplog.messages == [
        "browser: 20 connections are open ([limits] connections): "
        "the oldest one without a request is reset; if there is none, new ones wait"
    ]


async def socks_tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: Target) -> None:
    address = socket.inet_aton(target.host) + target.port.to_bytes(2, "big")
    writer.write(b"\x05\x01\x00" + b"\x05\x01\x00\x01" + address)
    assert await reader.readexactly(12) == b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)


class Refusing:
    """A far end that refuses every connection in its own words."""

    def __init__(self, code: Refusal, text: str) -> None:
        self._code, self._text = code, text

    async def dial(self, protocol_factory, target, *, early=False, compress=True):
        raise StreamRefused(self._code, self._text)


async def refused(listener: Listener, times: int) -> None:
    """Be refused so many times."""
    await listener.start()
    for _ in range(times):
        reader, writer = await connect(listener)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
    await until(lambda: listener.connections == 0)
    await listener.close()


@pytest.mark.parametrize(
    ("code", "text", "shown"),
    [
        (Refusal.FAILED, "x" * 512, f"'{'x' * 80}'…"),
        (Refusal.FAILED, "no'; web: 1 connection", '''"no'; web: 1 connection"'''),
        (Refusal.TIMED_OUT, "", "'timed out'"),
        (Refusal.OFFLINE, "x" * 512, f"'{'x' * 240}'…"),
    ],
    ids=["long", "with a quote", "empty", "of this end"],
)
async def test_what_the_far_end_says_is_quoted_and_cut(caplog, code, text, shown):
    caplog.set_level(logging.INFO)
    await refused(ForwardListener(forward(SOMEWHERE), Refusing(code, text)), 1)
    assert caplog.messages == [f"web: {SOMEWHERE} refused: {shown}"]


async def test_many_refusals_are_few_lines(caplog):
    caplog.set_level(logging.INFO)
    await refused(ForwardListener(forward(SOMEWHERE), Refusing(Refusal.FAILED, "no")), 50)
    assert caplog.messages == [f"web: {SOMEWHERE} refused: 'no'"] * 10


async def test_small_writes_are_not_delayed(dialer):
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


async def fill_up(listener: ForwardListener, count: int) -> list[socket.socket]:
    """Make connections. Each costs one more descriptor if it is accepted."""
    loop = asyncio.get_running_loop()
    port = int(listener.addresses[0].rpartition(":")[2])
    clients = [socket.socket() for _ in range(count)]
    for sock in clients:
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", port))
    return clients


@pytest.mark.parametrize(
    ("spare", "reason"),
    [
        (0, "no connection can be accepted (too many open files)"),
        (SPARE, "connections are open (ulimit -n)"),
    ],
    ids=["none left", "few left"],
)
async def test_running_out_of_descriptors_does_not_end_the_listener(
    dialer: DirectDialer, caplog, monkeypatch, spare, reason
):
    if not spare:  # as if something else had taken the last ones meanwhile
        monkeypatch.setattr(listener_module, "scarce", lambda _: False)
    dialer.gate.clear()  # without a dial each connection costs one descriptor
    listener = ForwardListener(forward(Target("127.0.0.1", unused_port())), dialer)
    await listener.start()
    with limited(10, spare):
        clients = await fill_up(listener, 8)
        await until(lambda: reason in caplog.text)
        served = listener.connections
        assert 0 < served < 8
    clients[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    clients[0].close()
    await until(lambda: listener.connections > served)
    for sock in clients:
        sock.close()
    await listener.close()
    await listener.drain()


async def test_no_connection_is_lost_while_listeners_hand_their_port_over(dialer):
    async with Origin(echo) as origin:
        entry = forward(Target("127.0.0.1", origin.port))
        listener = ForwardListener(entry, dialer)
        await listener.start()
        port = int(listener.addresses[0].rpartition(":")[2])
        old, answers = [], []

        async def ask():
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            answers.append(await reader.readexactly(5))
            writer.close()

        async def ask_often():
            for _ in range(100):
                await asyncio.wait_for(ask(), 5)

        asking = [asyncio.create_task(ask_often()) for _ in range(8)]
        while not all(task.done() for task in asking):
            old.append(listener)
            listener = ForwardListener(entry, dialer)
            await listener.start(await old[-1].release())
            await asyncio.sleep(0.001)
        await asyncio.gather(*asking)
        await listener.close()
        assert answers == [b"hello"] * 800
        assert len(old) > 10
        for each in (*old, listener):
            await each.drain(10)
