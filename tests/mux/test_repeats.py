"""Small segments of short streams go twice."""

from __future__ import annotations

import pytest

from toxproxy.errors import ResetCode
from toxproxy.mux.frames import Data, Fin
from toxproxy.mux.stream import Stream

from .blocks import noise
from .pair import Packet, Pair, Side, decoded


def typed(data: bytes = b"ls") -> tuple[Pair, Stream, list[Packet]]:
    """A stream on which a few bytes were sent at the time 0."""
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, data)
    return pair, near, pair.client.take()


def ride(side: Side, now: float, room: int = 1000) -> Packet | None:
    """What goes into a packet that leaves anyway."""
    pieces: list[bytes | memoryview] = []
    contents = side.mux.scheduler.fill(pieces, room, now)
    return None if contents is None else Packet(contents, b"".join(pieces))


@pytest.mark.parametrize(("now", "goes"), [(0.003, False), (0.004, True), (0.049, True), (0.051, False)])
def test_bytes_go_again_in_a_packet_that_leaves_a_little_later(now: float, goes: bool) -> None:
    pair, near, _ = typed()
    assert not pair.client.mux.scheduler.wants_to_send, "no packet leaves for that alone"
    packet = ride(pair.client, now)
    if goes:
        assert packet is not None
        assert decoded([packet]) == [Data(near.id, 0, b"ls")]
    else:
        assert packet is None


def test_only_once() -> None:
    pair, _, _ = typed()
    assert ride(pair.client, 0.01)
    assert not ride(pair.client, 0.02)


def test_not_if_they_have_arrived() -> None:
    pair, _, sent = typed()
    pair.client.deliver(sent)
    assert not ride(pair.client, 0.01)


def test_not_if_their_stream_has_ended() -> None:
    pair, near, _ = typed()
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    pair.client.take()
    assert not ride(pair.client, 0.01)


def test_they_wait_for_a_packet_with_room() -> None:
    pair, _, _ = typed(noise(200))
    assert not ride(pair.client, 0.01, room=100)
    assert ride(pair.client, 0.02, room=300)


@pytest.mark.parametrize("first", [True, False])
def test_either_packet_is_enough(first: bool) -> None:
    pair, near, sent = typed()
    again = ride(pair.client, 0.01)
    assert again is not None
    pair.client.deliver([sent[0] if first else again])
    pair.client.lose([again if first else sent[0]])
    assert not pair.client.mux.scheduler.wants_to_send
    pair.server.receive(again.frames)
    assert pair.server.received(pair.server.mux.streams[near.id]) == b"ls"


def test_if_both_are_lost_they_are_sent_again_once() -> None:
    pair, near, sent = typed()
    again = ride(pair.client, 0.01)
    assert again is not None
    pair.client.lose([*sent, again])
    assert decoded(pair.client.take()) == [Data(near.id, 0, b"ls")]


def test_what_is_sent_again_anyway_is_not_repeated_beside_it() -> None:
    pair, near, sent = typed()
    pair.client.lose(sent)
    packet = ride(pair.client, 0.01)
    assert packet is not None
    assert decoded([packet]) == [Data(near.id, 0, b"ls")]


def test_they_go_before_bulk_and_large_segments_do_not_go_twice() -> None:
    pair = Pair()
    bulk, _ = pair.connect()
    near, _ = pair.connect()
    pair.client.mux.write(near, b"ls")
    pair.client.mux.finish(near)
    pair.client.take()
    pair.client.now = 0.01
    pair.client.mux.write(bulk, noise(20_000))
    first, *rest = pair.client.take()
    assert decoded([first])[:2] == [Data(near.id, 0, b"ls"), Fin(near.id, 2)]
    pair.client.deliver([first, *rest])
    assert not ride(pair.client, 0.02)


def test_the_end_of_a_bulk_stream_is_not_repeated() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, noise(100_000))
    pair.client.take()
    pair.client.mux.write(near, b"the rest")
    pair.client.take()
    assert not ride(pair.client, 0.01)


def test_they_are_bounded() -> None:
    pair = Pair()
    near, _ = pair.connect()
    for _ in range(1000):
        pair.client.mux.write(near, b"x")
        pair.client.take()
    packet = ride(pair.client, 0.01, room=100_000)
    assert packet is not None
    assert len(decoded([packet])) == 64
