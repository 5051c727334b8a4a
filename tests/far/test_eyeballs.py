"""Several addresses, one connection."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from toxproxy import eyeballs

LOCAL = ip_address("127.0.0.1")
UNROUTABLE = ip_address("255.255.255.255")  # the kernel says ENETUNREACH at once and sends nothing


async def test_the_next_address_is_tried_while_the_first_is_silent(
    echo_port: int, black_hole: Callable[[str, int], int]
) -> None:
    black_hole("127.0.0.2", echo_port)
    with await eyeballs.connect([ip_address("127.0.0.2"), LOCAL], echo_port) as sock:
        assert sock.getpeername() == ("127.0.0.1", echo_port)


async def test_the_next_address_is_tried_when_the_first_refuses(echo_port: int) -> None:
    with await eyeballs.connect([ip_address("127.0.0.2"), LOCAL], echo_port) as sock:
        assert sock.getpeername() == ("127.0.0.1", echo_port)


async def test_the_families_take_turns_beginning_with_the_first(echo_port: int) -> None:
    addresses = [ip_address("::1"), ip_address("::2"), LOCAL, ip_address("127.0.0.2")]
    turns = [str(address) for address in eyeballs._in_turns(addresses)]
    assert turns == ["::1", "127.0.0.1", "::2", "127.0.0.2"]


@pytest.mark.parametrize("addresses", [[UNROUTABLE, LOCAL], [LOCAL, UNROUTABLE]])
async def test_a_refusal_tells_more_than_a_missing_route(
    addresses: list[eyeballs.Address], closed_port: int
) -> None:
    with pytest.raises(ConnectionRefusedError):
        await eyeballs.connect(addresses, closed_port)


async def test_a_lone_address_without_a_route_says_so() -> None:
    with pytest.raises(OSError, match="unreachable") as caught:
        await eyeballs.connect([UNROUTABLE], 80)
    assert caught.value.errno == errno.ENETUNREACH


async def test_small_writes_leave_at_once_and_dead_peers_are_noticed(echo_port: int) -> None:
    with await eyeballs.connect([LOCAL], echo_port) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.filterwarnings("error")  # a socket that is left open warns when it is collected
async def test_cancelling_closes_every_attempt(black_hole: Callable[[str], int]) -> None:
    port = black_hole("127.0.0.1")
    before = asyncio.all_tasks()
    race = asyncio.create_task(eyeballs.connect([LOCAL, LOCAL], port))
    await asyncio.sleep(0.3)  # both attempts are under way
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    await asyncio.sleep(0.01)
    assert asyncio.all_tasks() == before
