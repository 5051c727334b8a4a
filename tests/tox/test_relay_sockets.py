"""libtoxcore's TCP sockets: how they are found, what is an event, and that a node needs no timer for them."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest
import uvloop

from tests.tox.pair import Catcher, Pair
from toxproxy.tox import relay_sockets
from toxproxy.tox.node import Node
from toxproxy.tox.relay_sockets import SEARCH_EVERY, RelaySockets, State, judge

pytestmark = pytest.mark.skipif(not hasattr(select, "epoll"), reason="this system has no epoll")

ID = 200


def as_libtoxcore_opens_it(sock: socket.socket) -> socket.socket:
    sock.setblocking(False)
    sock.set_inheritable(True)
    return sock


@contextmanager
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A socket like libtoxcore's to a relay, and the relay's end of it, which is Python's."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()) as own,
        listener.accept()[0] as relay,
    ):
        yield as_libtoxcore_opens_it(own), relay


@pytest.fixture
def sockets() -> Iterator[RelaySockets]:
    it = RelaySockets(None)
    yield it
    it.close()


@pytest.fixture
def now() -> float:
    """Each test's own clock begins when every search is due."""
    return 100.0


LATER = 3600.0  # seconds after which a search is due, however long the last one took on a busy machine


def found(sockets: RelaySockets, now: float) -> int:
    """How many sockets there are at a search. Those of other tests' nodes count, too."""
    assert sockets.search(now)
    sockets.take_events()  # a new socket's state is an event
    return sockets.count


def test_only_sockets_that_are_not_closed_on_exec_are_found(sockets: RelaySockets, now: float) -> None:
    before = found(sockets, now)
    with connection() as (own, relay):
        assert found(sockets, now + LATER) == before + 1
        relay.send(b"to libtoxcore")
        assert sockets.take_events() == 1
        own.send(b"to the relay")
        assert sockets.take_events() == 0
    assert found(sockets, now + 2 * LATER) == before


def test_udp_and_unix_sockets_are_not_watched(sockets: RelaySockets, now: float) -> None:
    before = found(sockets, now)
    pair = socket.socketpair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, pair[0], pair[1]:
        for sock in (udp, *pair):
            as_libtoxcore_opens_it(sock)
        assert found(sockets, now + LATER) == before


def test_a_search_is_made_once_in_a_second(
    sockets: RelaySockets, now: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_sockets, "_SEARCH_SHARE", 0)  # however long it took
    assert sockets.search(now)
    assert not sockets.search(now + SEARCH_EVERY / 2)
    assert sockets.search(now + SEARCH_EVERY)


def test_half_a_packet_is_an_event_only_once(sockets: RelaySockets, now: float) -> None:
    with connection() as (own, relay):
        found(sockets, now)
        relay.send(b"half")  # and libtoxcore leaves it where it is
        assert [sockets.take_events() for _ in range(3)] == [1, 0, 0]
        relay.send(b"half")
        assert sockets.take_events() == 1
        assert own.recv(100) == b"halfhalf"


def test_a_full_socket_is_an_event_once_it_is_writable(sockets: RelaySockets, now: float) -> None:
    with connection() as (own, relay):
        found(sockets, now)
        sent = 0
        with suppress(BlockingIOError):
            while True:
                sent += own.send(bytes(1400))
        assert sockets.take_events() == 0
        relay.settimeout(10)
        while sent:
            sent -= len(relay.recv(1 << 20))
        assert select.select([sockets.descriptor], [], [], 10)[0]
        assert sockets.take_events() == 1


def test_what_waits_in_a_socket_to_a_relay_is_little_and_leaves_at_once(
    sockets: RelaySockets, now: float
) -> None:
    with connection() as (own, _):
        found(sockets, now)
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 128 * 1024


def test_a_relay_has_room_for_packets_that_wait() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sockets = RelaySockets(listener.getsockname()[1])
        as_libtoxcore_opens_it(listener)
        sockets.search(1.0)
        with socket.create_connection(listener.getsockname()):
            assert sockets.take_events() > 0
            with as_libtoxcore_opens_it(listener.accept()[0]) as accepted:
                assert sockets.search(1.1)  # somebody came, so this is sooner than after a second
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) != 128 * 1024
        sockets.close()


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_socket_that_is_closed_and_whose_number_is_reused_is_forgotten(new_loop: type, now: float) -> None:
    async def main() -> None:
        loop, sockets = asyncio.get_running_loop(), RelaySockets(None)
        woken = asyncio.Event()
        before = found(sockets, now)
        assert sockets.descriptor is not None
        loop.add_reader(sockets.descriptor, lambda: sockets.take_events() and woken.set())
        with connection() as (own, relay):
            found(sockets, now + LATER)
            relay.send(b"!")
            await asyncio.wait_for(woken.wait(), 10)
            number = own.fileno()
            own.close()
            # A connection of this program gets the number, and the loop watches it as usual.
            left, right = socket.socketpair()
            assert left.fileno() == number
            with right:
                reader, writer = await asyncio.open_unix_connection(sock=left)
                woken.clear()
                relay.close()
                right.send(b"hello")
                assert await reader.readexactly(5) == b"hello"
                assert not woken.is_set()
                assert found(sockets, now + 2 * LATER) == before
                writer.close()
                await writer.wait_closed()
        with connection() as (_, relay):
            assert found(sockets, now + 3 * LATER) == before + 1
            woken.clear()
            relay.send(b"!")
            await asyncio.wait_for(woken.wait(), 10)
        loop.remove_reader(sockets.descriptor)
        sockets.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


@contextmanager
def without_timers(*nodes: Node) -> Iterator[None]:
    """Between `with` and its end the nodes run only when a socket wakes them."""
    for node in nodes:
        node._timer.stop()
        node._wake_at = lambda due: None  # type: ignore[method-assign]
    yield
    for node in nodes:
        del node._wake_at
        node._iterate()


@pytest.mark.asyncio(loop_scope="session")
async def test_the_first_packet_after_a_pause_waits_for_no_timer(relayed: Pair) -> None:
    there, back = Catcher(), Catcher()
    relayed.server.set_sink(relayed.client_number, there)
    relayed.client.set_sink(relayed.server_number, back)
    await asyncio.sleep(SEARCH_EVERY + 0.2)  # until each node has found its sockets
    assert relayed.relay is not None
    with without_timers(relayed.relay, relayed.server, relayed.client):
        await asyncio.sleep(0.3)
        assert relayed.client.send_lossy(relayed.server_number, bytes([ID]) + b"a key")
        assert await there.until(1) == [bytes([ID]) + b"a key"]
        assert relayed.server.send_lossy(relayed.client_number, bytes([ID]) + b"its echo")
        assert await back.until(1) == [bytes([ID]) + b"its echo"]


@pytest.mark.asyncio(loop_scope="session")
async def test_watched_sockets_do_not_keep_a_node_busy(
    relayed: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert relayed.relay is not None
    nodes = (relayed.relay, relayed.server, relayed.client)
    relayed.client.send_lossy(relayed.server_number, bytes([ID]))
    await asyncio.sleep(0.2)
    calls = count()
    for node in nodes:
        monkeypatch.setattr(node._running, "iterate", lambda run=node._tox.iterate: (next(calls), run()))
    await asyncio.sleep(1.0)
    # At its own interval each one would run 20 times in this second; a poll was each 2 ms.
    assert next(calls) < 3 * 100


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
    with connection() as (own, relay):
        own.send(b"hello")
        assert relay.recv(5) == b"hello"
        assert judge(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)) is State.LIVELY


@pytest.mark.parametrize("other", [State.LIVELY, State.SLOW])
def test_a_stalled_relay_is_given_up_only_for_a_lively_one(
    monkeypatch: pytest.MonkeyPatch, sockets: RelaySockets, now: float, other: State
) -> None:
    with connection() as (stalled, _), connection() as (lively, relay):
        states = {stalled.fileno(): State.STALLED, lively.fileno(): other}
        monkeypatch.setattr(relay_sockets, "_state", lambda it: states.get(it, State.SLOW))
        found(sockets, now)
        if other is State.LIVELY:
            with pytest.raises(BrokenPipeError):
                stalled.send(b"!")
        else:
            stalled.send(b"!")
        lively.send(b"!")
        assert relay.recv(1) == b"!"
