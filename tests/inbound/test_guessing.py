"""Guesses at the password of a proxy port, over real connections."""

from __future__ import annotations

import asyncio
import logging
import socket
from base64 import b64encode

import pytest

from tests.inbound.http_client import get, response
from tests.inbound.peers import DirectDialer, Origin, connect, echo, proxy, until
from tests.inbound.test_socks import OK_5, socks5
from toxproxy.address import Bind, Target
from toxproxy.inbound import guard, guesses
from toxproxy.socks import ProxyListener

PASSWORD = "sécret"


@pytest.fixture
def long_pause(monkeypatch):
    """The pause after one wrong password is longer than any test."""
    monkeypatch.setattr(guesses, "FIRST_PAUSE", 1000.0)
    monkeypatch.setattr(guesses, "LONGEST_PAUSE", 1000.0)
    monkeypatch.setattr(guard, "LONGEST_WAIT", 0.05)


def login(password: str) -> str:
    return "Proxy-Authorization: Basic " + b64encode(f"alice:{password}".encode()).decode()


async def ask_http(port, origin, password: str, host: str | None = None) -> int:
    if host is None:
        reader, writer = await connect(port)
    else:
        reader, writer = await asyncio.open_connection(host, int(port.addresses[0].rpartition(":")[2]))
    writer.write(get(origin.url + "/hello", login(password)))
    status, _, _ = await response(reader)
    writer.close()
    return status


async def ask_socks(port, target: Target, password: str) -> bytes:
    reader, writer = await connect(port)
    raw = password.encode()
    writer.write(b"\x05\x01\x02\x01\x05alice" + bytes([len(raw)]) + raw + socks5(target)[3:])
    answer = await reader.read(2)
    answer += await reader.read(2)
    writer.close()
    return answer


@pytest.mark.parametrize("guessed_on", ["HTTP", "SOCKS5"])
async def test_parallel_connections_give_no_more_guesses(locked_port, origin, dialer, long_pause, guessed_on):
    if guessed_on == "HTTP":
        assert await ask_http(locked_port, origin, "wrong") == 407
    else:
        assert await ask_socks(locked_port, origin.target, "wrong") == b"\x05\x02\x01\x01"
    tries = [PASSWORD, *(f"guess {number}" for number in range(20)), PASSWORD]
    statuses = await asyncio.gather(*(ask_http(locked_port, origin, password) for password in tries))
    assert set(statuses) == {429}
    refusals = await asyncio.gather(*(ask_socks(locked_port, origin.target, password) for password in tries))
    assert set(refusals) <= {b"\x05\xff", b"\x05\x02\x01\x01"}
    assert dialer.dialled == [], "a password was checked during the pause"


async def test_further_guesses_on_one_connection_wait_for_the_pause(locked_port, origin, long_pause):
    reader, writer = await connect(locked_port)
    statuses = []
    for password in ("wrong", "worse", PASSWORD):
        writer.write(get(origin.url + "/hello", login(password)))
        statuses.append((await response(reader))[0])
    assert statuses == [407, 429, 429]
    writer.close()


async def test_guesses_on_loopback_count_together(dialer, origin, long_pause):
    """A local program can use every address of the loopback."""
    port = ProxyListener(proxy("alice", PASSWORD, Bind("0.0.0.0", 0)), dialer)
    await port.start()
    assert await ask_http(port, origin, "wrong", "127.0.0.1") == 407
    assert await ask_http(port, origin, "wrong", "127.0.0.2") == 429
    await port.close()
    await port.drain()


def own_address() -> str | None:
    """An address of this machine other than loopback. No packet is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
        except OSError:
            return None
        host = str(sock.getsockname()[0])
    return None if host.startswith("127.") else host


@pytest.mark.skipif(own_address() is None, reason="needs an address beside the loopback")
async def test_the_right_password_from_another_address_does_not_wait(dialer, origin, long_pause):
    port = ProxyListener(proxy("alice", PASSWORD, Bind("0.0.0.0", 0)), dialer)
    await port.start()
    assert await ask_http(port, origin, "wrong", "127.0.0.1") == 407
    assert await ask_http(port, origin, PASSWORD, "127.0.0.1") == 429
    assert await ask_http(port, origin, PASSWORD, own_address()) == 200
    await port.close()
    await port.drain()


async def test_a_connection_that_has_logged_in_does_not_wait(locked_port, origin, long_pause):
    reader, writer = await connect(locked_port)
    request = get(origin.url + "/hello", login(PASSWORD))
    writer.write(request)
    assert (await response(reader))[0] == 200
    assert await ask_http(locked_port, origin, "wrong") == 407
    writer.write(request)
    assert (await response(reader))[0] == 200
    writer.close()


async def test_the_right_password_is_accepted_after_the_pause(locked_port, origin, monkeypatch):
    monkeypatch.setattr(guesses, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(guesses, "LONGEST_PAUSE", 0.05)
    async with Origin(echo) as server:
        for _ in range(3):
            assert await ask_http(locked_port, origin, "wrong") == 407
            assert await ask_socks(locked_port, server.target, "wrong") == b"\x05\x02\x01\x01"
            assert await ask_http(locked_port, origin, PASSWORD) == 200
            assert await ask_socks(locked_port, server.target, PASSWORD) == b"\x05\x02\x01\x00"


async def test_a_request_without_a_login_is_no_guess(locked_port, origin, long_pause):
    reader, writer = await connect(locked_port)
    for _ in range(5):
        writer.write(get(origin.url + "/hello"))
        assert (await response(reader))[0] == 407
    writer.write(get(origin.url + "/hello", login(PASSWORD)))
    assert (await response(reader))[0] == 200
    writer.close()


async def test_a_login_at_a_port_without_a_password_is_no_guess(port, origin, long_pause):
    for _ in range(3):
        assert await ask_http(port, origin, "anything") == 200
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(socks5(server.target))
        assert await reader.readexactly(len(OK_5)) == OK_5
        writer.close()


async def test_guesses_are_logged_with_the_address_now_and_then(locked_port, origin, caplog, monkeypatch):
    monkeypatch.setattr(guesses, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(guesses, "LONGEST_PAUSE", 0.0)
    caplog.set_level(logging.WARNING)
    assert await ask_http(locked_port, origin, "hunter2") == 407
    assert await ask_socks(locked_port, origin.target, "hunter2") == b"\x05\x02\x01\x01"
    assert caplog.messages == [
        "browser: a wrong user name or password from 127.0.0.1 (1 recently)",
        "browser: a wrong user name or password from 127.0.0.1 (2 recently)",
    ]
    for _ in range(30):
        await ask_http(locked_port, origin, "hunter2")
    assert len(caplog.messages) == 10
    assert "hunter2" not in caplog.text


async def test_a_client_that_leaves_during_the_pause_ends_it(dialer: DirectDialer, origin, monkeypatch):
    monkeypatch.setattr(guesses, "FIRST_PAUSE", 0.2)
    port = ProxyListener(proxy("alice", PASSWORD), dialer)
    await port.start()
    assert await ask_http(port, origin, "wrong") == 407
    _, writer = await connect(port)
    writer.write(get(origin.url + "/hello", login(PASSWORD)))
    writer.close()
    await until(lambda: port.connections == 0)
    await port.close()
    await port.drain()
