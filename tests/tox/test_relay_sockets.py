"""libtoxcore's TCP sockets: how they are found, what is an event, and that a node needs no timer for them."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest
import uvloop

from tests.tox.pair import Catcher, Pair
from toxproxy.tox import relay_sockets
from toxproxy.tox.node import Node
from toxproxy.tox.relay_health import Probes, State
from toxproxy.tox.relay_sockets import SEARCH_EVERY, RelaySockets

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


@pytest.mark.parametrize("other", [State.LIVELY, State.SLOW])
def test_a_stalled_relay_is_given_up_only_for_a_lively_one(
    monkeypatch: pytest.MonkeyPatch, sockets: RelaySockets, now: float, other: State
) -> None:
    with connection() as (stalled, _), connection() as (lively, relay):
        states = {stalled.fileno(): State.STALLED, lively.fileno(): other}
        monkeypatch.setattr(relay_sockets, "state_of", lambda it: states.get(it.fileno(), State.SLOW))
        monkeypatch.setattr(Probes, "answers", lambda *_: False)
        found(sockets, now)
        if other is State.LIVELY:
            with pytest.raises(BrokenPipeError):
                stalled.send(b"!")
        else:
            stalled.send(b"!")
        lively.send(b"!")
        assert relay.recv(1) == b"!"


def ended(sock: socket.socket) -> bool:
    """Whether libtoxcore would read there what it takes for the end of a connection."""
    with suppress(BlockingIOError):
        return sock.recv(2) == b"\xff\xff"
    return False


def test_a_connection_that_was_reset_or_closed_is_ended_at_once(sockets: RelaySockets, now: float) -> None:
    with connection() as (reset, relay), connection() as (closed, other), connection() as (lively, _):
        found(sockets, now)
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        relay.close()
        other.close()
        assert sockets.take_events() == 2
        assert ended(reset)
        assert ended(closed)
        assert not ended(lively)


def test_a_reset_that_comes_during_a_search_is_not_missed(sockets: RelaySockets, now: float) -> None:
    with connection() as (own, relay):
        found(sockets, now)
        relay.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        relay.close()
        found(sockets, now + SEARCH_EVERY)
        assert ended(own)


def test_a_stalled_relay_that_accepts_a_new_connection_is_ended(
    monkeypatch: pytest.MonkeyPatch, sockets: RelaySockets, now: float
) -> None:
    with connection() as (stalled, _):
        states = {stalled.fileno(): State.STALLED}
        monkeypatch.setattr(relay_sockets, "state_of", lambda it: states.get(it.fileno(), State.SLOW))
        found(sockets, now)
        assert not ended(stalled)
        time.sleep(0.1)  # on loopback a connection takes less
        found(sockets, now + SEARCH_EVERY)
        assert ended(stalled)


def test_after_a_death_the_kernel_asks_whether_the_others_live(sockets: RelaySockets, now: float) -> None:
    def asked() -> int:
        return other.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

    with connection() as (_, relay), connection() as (other, _):
        found(sockets, now)
        relay.close()
        sockets.take_events()
        assert not asked()
        found(sockets, now + 1)
        assert asked()
        found(sockets, now + 5)
        assert asked()
        found(sockets, now + 12)
        assert not asked()


def test_connections_are_renewed_but_not_those_just_made(sockets: RelaySockets, now: float) -> None:
    with connection() as (old, _), connection() as (replaced, _):
        found(sockets, now)
        with connection() as (young, _):
            os.dup2(young.fileno(), replaced.fileno())  # a new connection with the number of an old one
            found(sockets, now + 5)
            sockets.renew(now + 9)
            young.setblocking(False)
            assert ended(old)
            assert not ended(replaced)
            assert not ended(young)
