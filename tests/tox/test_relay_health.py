"""What the kernel says of a connection to a relay, and that libtoxcore makes a new one when it is over."""

from __future__ import annotations

import asyncio
import select
import socket
import sys

import pytest

from tests.tox.pair import Catcher, Pair
from toxproxy.tox.relay_health import Probes, State, judge, state_of

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")


def info(*, unacknowledged: int, retransmits: int, silent: int) -> bytes:
    """A `struct tcp_info`; `silent` are the ms since the last acknowledgement."""
    it = bytearray(104)
    it[2] = retransmits
    it[24:28] = unacknowledged.to_bytes(4, sys.byteorder)
    it[56:60] = silent.to_bytes(4, sys.byteorder)
    return bytes(it)


def test_a_relay_is_stalled_once_repetitions_stay_unanswered_for_seconds() -> None:
    assert judge(info(unacknowledged=9, retransmits=4, silent=5000)) is State.STALLED
    assert judge(info(unacknowledged=9, retransmits=4, silent=3000)) is State.SLOW
    assert judge(info(unacknowledged=9, retransmits=0, silent=9000)) is State.SLOW  # a closed window
    assert judge(info(unacknowledged=9, retransmits=0, silent=50)) is State.LIVELY
    assert judge(info(unacknowledged=0, retransmits=0, silent=90_000)) is State.LIVELY


def test_the_kernels_own_report_of_a_lively_connection() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as own,
        listener.accept()[0] as relay,
    ):
        own.send(b"hello")
        assert relay.recv(5) == b"hello"
        assert state_of(own) is State.LIVELY


def test_a_new_connection_shows_that_a_relay_is_there() -> None:
    probes = Probes()
    with socket.create_server(("127.0.0.1", 0)) as relay:
        peer = relay.getsockname()
        assert not probes.answers(peer)  # it has only begun
        relay.accept()[0].close()
        assert probes.answers(peer)
        probes.keep(())
    assert not probes.answers(peer)
    assert not probes.answers(peer)  # refused
    probes.keep(())


@pytest.mark.asyncio(loop_scope="session")
async def test_libtoxcore_connects_anew_at_once_when_its_connection_is_ended(relayed: Pair) -> None:
    sockets, catcher = relayed.client._sockets, Catcher()
    relayed.server.set_sink(relayed.client_number, catcher)
    before = sockets.peers
    async with asyncio.timeout(60):
        while True:
            sockets.renew(asyncio.get_running_loop().time())
            if not sockets._relays:
                break
            await asyncio.sleep(0.5)  # one that is new is left alone
    async with asyncio.timeout(20):  # libtoxcore alone: up to 40 s
        while not sockets._relays:
            await asyncio.sleep(0.02)
        while not catcher.packets:
            relayed.client.send_lossy(relayed.server_number, bytes([200]))
            await asyncio.sleep(0.02)
    assert sockets.peers == before
    relayed.server.set_sink(relayed.client_number, None)
