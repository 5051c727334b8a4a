"""The memory limit that all sessions of a process share."""

from __future__ import annotations

import random

import pytest

from toxproxy.address import Target
from toxproxy.errors import Refusal, RemoteProtocolError, ResetCode, StreamRefused
from toxproxy.mux.events import StreamClosed, StreamDrained, StreamTurnedAway
from toxproxy.mux.frames import BULK_HEADER, Credit, Open
from toxproxy.mux.limits import Allotment, Limits, Pool
from toxproxy.mux.receiver import Receiver
from toxproxy.mux.scheduler import MAX_WAITING
from toxproxy.mux.sender import LEAST_BUFFER

from .pair import ROOM, Pair

LEAST = Limits().least_window
RESET = 6 + 64  # bytes that a RESET frame takes while it waits


def receivers(allotment: Allotment, count: int) -> list[Receiver]:
    return [Receiver(allotment.first(), allotment) for _ in range(count)]


def test_memory_taken_by_one_session_is_missing_for_the_others() -> None:
    limits = Limits(session_window=1 << 20, window=1 << 20, pool=Pool(1 << 20))
    greedy, other = Allotment(limits), Allotment(limits)
    taken = receivers(greedy, 1000)
    for each in taken:
        each.resize(greedy.wider(each.size))
    assert other.first() == LEAST
    assert sum(each.size for each in taken) <= (1 << 20) + 1000 * LEAST


def test_a_session_also_has_its_own_limit() -> None:
    pool = Pool(1 << 30)
    allotment = Allotment(Limits(session_window=1 << 20, pool=pool))
    receivers(allotment, 1000)
    assert allotment.first() == LEAST
    assert pool.left > 1 << 29


def test_a_closed_stream_returns_its_memory() -> None:
    pool = Pool(64 << 20)
    allotment = Allotment(Limits(pool=pool))
    taken = receivers(allotment, 100)
    for each in taken:
        each.resize(allotment.wider(each.size))
    assert pool.left < 64 << 20
    for each in taken:
        each.drop()
    assert pool.left == 64 << 20
    assert Allotment(Limits(pool=pool)).first() == 1 << 20


def test_written_data_counts_until_it_is_acknowledged() -> None:
    pool = Pool(4 << 20)
    pair = Pair(client=Limits(session_window=4 << 20, pool=pool))
    before = pool.left
    near, _ = pair.connect()
    opened = pool.left
    pair.client.mux.write(near, random.Random(1).randbytes(300_000))
    assert pool.left == opened - 300_000
    sent = pair.client.take(most=50)
    on_its_way = 50 * ROOM
    headers = 50 * BULK_HEADER
    assert pool.left == opened - 300_000 - headers
    pair.client.lose(sent[:10])
    pair.client.deliver(sent[10:])
    assert pool.left == opened - 300_000 - headers + on_its_way * 4 // 5
    sent = pair.client.take()
    assert pool.left == opened - sum(len(packet.frames) for packet in sent)
    pair.client.deliver(sent)
    assert pool.left == opened
    pair.client.mux.write(near, random.Random(1).randbytes(300_000))
    sent = pair.client.take(most=10)
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    assert pool.left == before - RESET
    pair.client.deliver(sent)
    pair.exchange()
    assert pool.left == before


def test_compressed_data_counts_with_the_size_of_its_blocks_once_it_is_sent() -> None:
    pool = Pool(4 << 20)
    pair = Pair(client=Limits(session_window=4 << 20, pool=pool))
    near, _ = pair.connect()
    opened = pool.left
    pair.client.mux.write(near, bytes(300_000))
    sent = pair.client.take()
    assert opened - pool.left == sum(len(packet.frames) for packet in sent) < 10_000
    pair.client.deliver(sent)
    assert pool.left == opened


def test_where_memory_is_short_each_stream_still_has_a_little() -> None:
    pool = Pool(1 << 20)
    limits = Limits(early_window=0, least_window=1, window=1, session_window=1 << 20, pool=pool)
    pair = Pair(client=limits, server=Limits(early_window=0, least_window=0, window=0))
    streams = [pair.connect()[0] for _ in range(400)]
    for stream in streams:
        while not pair.client.mux.write(stream, bytes(1000)):
            pass
    assert all(stream.sender.buffered > LEAST_BUFFER for stream in streams)
    held = sum(stream.sender.buffered for stream in streams)
    assert held <= (1 << 20) + len(streams) * (LEAST_BUFFER + 1000)
    pair.exchange()  # the peer reads nothing yet
    assert not pair.client.of(StreamDrained)
    far = next(iter(pair.server.mux.streams.values()))
    pair.client.hear(Credit(far.id, 0, 1 << 20))
    pair.client.take()
    assert [event.stream for event in pair.client.of(StreamDrained)] == [streams[0]]


def test_what_the_peer_does_not_acknowledge_counts() -> None:
    pool = Pool(1 << 20)
    pair = Pair(client=Limits(session_window=1 << 20, window=1000, pool=pool), server=Limits(window=8 << 20))
    near, _ = pair.connect()
    near.sender.credited(0, 1 << 40)  # a peer that gives credit without end, and acknowledges nothing
    written = 0
    while not pair.client.mux.write(near, random.Random(written).randbytes(1000)):
        written += 1000
        pair.client.take()  # all of it leaves, and nothing is heard of it
        assert written < 2 << 20
    assert not pair.client.mux.scheduler.wants_to_send
    assert near.sender.buffered <= LEAST_BUFFER + 1000
    assert pool.left < 1 << 18
    pair.client.mux.end(ResetCode.LINK_LOST)
    assert pool.left == 1 << 20


def test_a_flood_of_questions_is_bounded_by_memory_too() -> None:
    pair = Pair(server=Limits(session_window=1 << 20, pool=Pool(1 << 20), streams=0))

    def flood() -> None:
        for number in range(MAX_WAITING):
            pair.server.hear(Open(1 + 2 * number, 1, 0, 80, "host"))

    with pytest.raises(RemoteProtocolError, match="does not take them"):
        flood()


def test_limits_that_change_count_for_what_is_opened_next_and_balance_in_the_end() -> None:
    pool = Pool(8 << 20)
    limits = Limits(session_window=4 << 20, window=1 << 20, pool=pool, streams=2)
    pair = Pair(server=limits)
    pair.connect()
    limits.session_window, limits.window, limits.streams = 1 << 20, 32 << 10, 1
    assert pair.server.mux.memory.first() <= 32 << 10
    other = Target("192.0.2.1", 80)
    pair.client.mux.open(other)
    pair.exchange()
    assert pair.server.of(StreamTurnedAway) == [StreamTurnedAway(other)]
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamRefused)
    assert closed.error.code is Refusal.TOO_MANY_STREAMS
    pool.size = 6 << 20
    assert pool.left < 6 << 20
    pair.server.mux.end(ResetCode.LINK_LOST)
    assert pool.left == 6 << 20
