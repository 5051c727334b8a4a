"""The proxy port (toxproxy/socks.py) between real sockets: SOCKS tunnels, and other clients."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.inbound.peers import Origin, connect, echo, proxy, reset, talk, until
from tests.inbound.test_handshake import REFUSED
from tests.ports import unused_port
from toxproxy.address import Target
from toxproxy.config.settings import LimitSettings
from toxproxy.errors import Refusal
from toxproxy.socks import ProxyListener

OK_5 = b"\x05\x00" + b"\x05\x00\x00\x01" + bytes(6)
OK_4 = b"\x00\x5a" + bytes(6)


def socks5(target: Target) -> bytes:
    name = target.host.encode()
    request = b"\x05\x01\x00\x03" + bytes([len(name)]) + name + target.port.to_bytes(2, "big")
    return b"\x05\x01\x00" + request


def socks4(target: Target) -> bytes:
    address = bytes(int(part) for part in target.host.split("."))
    return b"\x04\x01" + target.port.to_bytes(2, "big") + address + b"me\x00"


def socks4a(target: Target) -> bytes:
    return b"\x04\x01" + target.port.to_bytes(2, "big") + b"\0\0\0\1me\0" + target.host.encode() + b"\0"


KINDS = {"socks5": (socks5, OK_5), "socks4": (socks4, OK_4), "socks4a": (socks4a, OK_4)}


@pytest.mark.parametrize(("ask", "granted"), KINDS.values(), ids=KINDS)
async def test_bytes_sent_with_the_request_go_through_the_tunnel(port, dialer, ask, granted):
    async with Origin(echo) as server:
        assert await talk_after(port, ask(server.target) + b"hello", granted) == b"hello"
    assert dialer.dialled == [server.target]


async def talk_after(port, data: bytes, granted: bytes) -> bytes:
    """Send `data`, expect `granted`, half-close, and return the rest of what comes."""
    reader, writer = await connect(port)
    writer.write(data)
    assert await reader.readexactly(len(granted)) == granted
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_handshake_may_come_byte_by_byte(port):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        for byte in socks5(server.target):
            writer.write(bytes([byte]))
            await asyncio.sleep(0.001)
        assert await reader.readexactly(len(OK_5)) == OK_5
        writer.write(b"hi")
        assert await reader.readexactly(2) == b"hi"
        writer.close()


async def test_the_bytes_of_a_server_that_speaks_first_follow_the_reply(port):
    async def greet(reader, writer):
        writer.write(b"220 welcome")
        writer.write_eof()
        await reader.read()

    async with Origin(greet) as server:
        reader, writer = await connect(port)
        writer.write(socks5(server.target))
        assert await reader.read() == OK_5 + b"220 welcome"
        writer.close()


async def test_each_direction_of_a_tunnel_ends_by_itself(port):
    async def count(reader, writer):
        total = len(await reader.read())
        writer.write(str(total).encode())

    async with Origin(count) as server:
        reader, writer = await connect(port)
        writer.write(socks5(server.target))
        await reader.readexactly(len(OK_5))
        writer.write(bytes(3_000_000))
        writer.write_eof()
        assert await reader.read() == b"3000000"
        writer.close()
        await until(lambda: port.connections == 0)


async def test_the_reply_waits_for_the_far_end(port, dialer):
    async with Origin(echo) as server:
        dialer.gate.clear()
        reader, writer = await connect(port)
        writer.write(socks4(server.target))
        await dialer.waiting.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        dialer.gate.set()
        assert await reader.readexactly(len(OK_4)) == OK_4
        writer.close()


@pytest.mark.parametrize("code", Refusal)
async def test_a_refusal_is_answered_with_its_code(port, dialer, caplog, code):
    caplog.set_level(logging.INFO)
    dialer.refusals["origin.test"] = code
    target = Target("origin.test", 80)
    assert await talk_open(port, socks5(target)) == b"\x05\x00\x05" + bytes([REFUSED[code], 0, 1]) + bytes(6)
    assert await talk_open(port, socks4a(target)) == b"\x00\x5b" + bytes(6)
    lines = 1 if code is Refusal.TOO_MANY_STREAMS else 2  # a limit is logged once a minute
    assert caplog.messages == [f"browser: {target} refused: {code.words!r}"] * lines


async def talk_open(port, data: bytes) -> bytes:
    """Send and return everything that comes back, without a half-close."""
    reader, writer = await connect(port)
    writer.write(data)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_dead_port_is_answered_with_connection_refused(port):
    answer = await talk_open(port, socks5(Target("127.0.0.1", unused_port())))
    assert answer == b"\x05\x00\x05\x05\x00\x01" + bytes(6)


@pytest.mark.parametrize("ask", [socks5, socks4, socks4a])
async def test_a_client_that_is_reset_during_the_dial_cancels_it(port, dialer, ask):
    dialer.gate.clear()
    _, writer = await connect(port)
    writer.write(ask(Target("127.0.0.1", unused_port())))
    await dialer.waiting.wait()
    reset(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: port.connections == 0)


@pytest.mark.parametrize(("ask", "granted"), KINDS.values(), ids=KINDS)
async def test_a_client_that_sends_everything_and_half_closes_is_answered(port, ask, granted):
    async with Origin(echo) as server:
        assert await talk(port, ask(server.target) + b"data") == granted + b"data"
    await until(lambda: port.connections == 0)


async def test_a_client_that_half_closes_gets_the_code_of_a_refusal(port):
    answer = await talk(port, socks5(Target("127.0.0.1", unused_port())))
    assert answer == b"\x05\x00\x05\x05\x00\x01" + bytes(6)


@pytest.mark.parametrize("ask", [socks5, socks4a])
async def test_an_ipv6_address_may_come_in_brackets(port, dialer, ask):
    dialer.refusals["::1"] = Refusal.NOT_PERMITTED
    await talk_open(port, ask(Target("[::1]", 80)))
    assert dialer.dialled == [Target("::1", 80)]


@pytest.mark.parametrize("name", ["[::1", "::1]", "[]", "[localhost]", "[127.0.0.1]", "[[::1]]"])
async def test_brackets_around_anything_else_are_refused(port, dialer, name):
    assert await talk_open(port, socks5(Target(name, 80))) == b"\x05\x00\x05\x01\x00\x01" + bytes(6)
    assert dialer.dialled == []


async def test_a_password_opens_a_locked_port(locked_port):
    async with Origin(echo) as server:
        password = "sécret".encode()
        login = b"\x01\x05alice" + bytes([len(password)]) + password
        request = b"\x05\x01\x02" + login + socks5(server.target)[3:]
        granted = b"\x05\x02\x01\x00" + OK_5[2:]
        assert await talk_after(locked_port, request + b"in", granted) == b"in"


async def test_a_locked_port_refuses_others_and_logs_why(locked_port, dialer, caplog):
    caplog.set_level(logging.INFO)
    target = Target("127.0.0.1", 9)
    assert await talk_open(locked_port, socks5(target)) == b"\x05\xff"
    assert await talk_open(locked_port, b"\x05\x01\x02\x01\x05alice\x01x") == b"\x05\x02\x01\x01"
    assert await talk_open(locked_port, socks4(target)) == b"\x00\x5b" + bytes(6)
    assert dialer.dialled == []
    assert "SOCKS4 cannot carry a password" in caplog.text
    assert "wrong user name or password" in caplog.text
    assert "alice" not in caplog.text


async def test_tls_to_the_proxy_port_is_closed_and_logged(port, caplog):
    caplog.set_level(logging.INFO)
    assert await talk(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03") == b""
    assert "browser: a client speaks TLS to the proxy" in caplog.text


@pytest.mark.parametrize("garbage", [b"\x00" * 100, b"\xff\xfb\x01", b"\r\n\r\n", b""])
async def test_garbage_is_closed_without_an_answer(port, garbage):
    assert await talk(port, garbage) == b""
    await until(lambda: port.connections == 0)


async def test_an_unfinished_handshake_is_given_up(dialer, caplog):
    caplog.set_level(logging.INFO)
    port = ProxyListener(proxy(), dialer, LimitSettings(handshake=0.05))
    await port.start()
    for beginning in (b"", b"\x05", b"\x05\x01\x00\x05\x01", b"\x04\x01"):
        reader, writer = await connect(port)
        writer.write(beginning)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(100)
        writer.close()
    await until(lambda: port.connections == 0)
    await port.close()
    assert caplog.messages == [
        "browser: a SOCKS client did not finish its request within 0.05 s ([limits] handshake)"
    ]


async def test_a_handshake_that_comes_slowly_has_no_more_time(dialer):
    port = ProxyListener(proxy(), dialer, LimitSettings(handshake=0.2))
    await port.start()
    reader, writer = await connect(port)

    async def trickle() -> None:
        writer.write(b"\x04\x01\x00\x50" + bytes([127, 0, 0, 1]))
        while True:
            writer.write(b"a")  # of a user's name
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(100), 5)
    trickling.cancel()
    writer.close()
    await port.close()


async def test_a_reset_at_the_far_end_resets_a_tunnel(port):
    async def drop(reader, writer):
        await reader.readexactly(1)
        reset(writer)

    async with Origin(drop) as server:
        reader, writer = await connect(port)
        writer.write(socks5(server.target))
        await reader.readexactly(len(OK_5))
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()


async def test_closing_the_port_cancels_dials_and_resets_tunnels(port: ProxyListener, dialer):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(socks5(server.target))
        await reader.readexactly(len(OK_5))
        dialer.gate.clear()
        dialer.waiting.clear()
        _, waiting = await connect(port)
        waiting.write(socks5(server.target))
        await dialer.waiting.wait()
        await port.close()
        await port.drain()
        assert dialer.cancelled.is_set()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert all(transport.is_closing() for transport in dialer.open)
        writer.close()
        waiting.close()


async def test_a_hundred_tunnels_at_once(port):
    async with Origin(echo) as server:
        data = bytes(range(256)) * 256

        async def one() -> None:
            assert await talk_after(port, socks5(server.target) + data, OK_5) == data

        await asyncio.gather(*(one() for _ in range(100)))
        assert server.connections == 100
        await until(lambda: port.connections == 0)
