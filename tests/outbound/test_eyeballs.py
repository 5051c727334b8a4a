"""Happy Eyeballs (RFC 8305): one connection to one of several addresses."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import socketserver
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from toxproxy.outbound import eyeballs

LOCAL = ip_address("127.0.0.1")
UNROUTABLE = ip_address("255.255.255.255")  # the kernel answers ENETUNREACH at once and sends nothing


async def test_the_next_address_is_tried_while_the_first_is_silent(
    echo_port: int, black_hole: Callable[[str, int], int]
) -> None:
    black_hole("127.0.0.2", echo_port)
    with await eyeballs.connect([ip_address("127.0.0.2"), LOCAL], echo_port) as sock:
        assert sock.getpeername() == ("127.0.0.1", echo_port)


async def test_the_next_address_is_tried_when_the_first_refuses(echo_port: int) -> None:
    with await eyeballs.connect([ip_address("127.0.0.2"), LOCAL], echo_port) as sock:
        assert sock.getpeername() == ("127.0.0.1", echo_port)


async def test_address_families_alternate_beginning_with_the_first(echo_port: int) -> None:
    addresses = [ip_address("::1"), ip_address("::2"), LOCAL, ip_address("127.0.0.2")]
    turns = [str(address) for address in eyeballs._in_turns(addresses)]
    assert turns == ["::1", "127.0.0.1", "::2", "127.0.0.2"]


@pytest.mark.parametrize("addresses", [[UNROUTABLE, LOCAL], [LOCAL, UNROUTABLE]])
async def test_connection_refused_is_reported_rather_than_a_missing_route(
    addresses: list[eyeballs.Address], closed_port: int
) -> None:
    with pytest.raises(ConnectionRefusedError):
        await eyeballs.connect(addresses, closed_port)


async def test_a_single_address_without_a_route_is_network_unreachable() -> None:
    with pytest.raises(OSError, match="unreachable") as caught:
        await eyeballs.connect([UNROUTABLE], 80)
    assert caught.value.errno == errno.ENETUNREACH


async def test_connections_have_no_delay_and_keepalive(echo_port: int) -> None:
    with await eyeballs.connect([LOCAL], echo_port) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert seconds_until_lost(sock) <= 180


def seconds_until_lost(sock: socket.socket) -> int:
    """Seconds until keepalive gives up a peer that vanished."""
    if not hasattr(socket, "TCP_KEEPIDLE"):
        pytest.skip("this system has one interval for all connections")
    idle, every, most = (
        sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{name}"))
        for name in ("IDLE", "INTVL", "CNT")
    )
    return idle + every * most


def test_a_descriptor_that_the_event_loop_still_knows_is_an_os_error() -> None:
    """A descriptor was closed without the event loop, and the system has used its number again."""

    async def connect() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", echo_port)
        number = writer.get_extra_info("socket").fileno()
        os.close(number)
        with pytest.raises(OSError, match=r"[Ff]ile descriptor"):
            await eyeballs.connect([LOCAL], echo_port)
        nothing = os.open(os.devnull, os.O_RDONLY)  # the event loop may close it
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
        writer.transport.abort()
        await asyncio.sleep(0)

    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        echo_port = server.server_address[1]
        loops = [asyncio.new_event_loop]
        with contextlib.suppress(ImportError):
            import uvloop

            loops.append(uvloop.new_event_loop)
        for loop in loops:
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(connect())


@pytest.mark.filterwarnings("error")  # an open socket warns when it is collected
async def test_cancelling_closes_every_attempt(black_hole: Callable[[str], int]) -> None:
    port = black_hole("127.0.0.1")
    before = asyncio.all_tasks()
    race = asyncio.create_task(eyeballs.connect([LOCAL, LOCAL], port))
    await asyncio.sleep(0.3)  # until both attempts have begun
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
