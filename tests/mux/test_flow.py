"""Flow control of streams: credit, and windows that grow."""

from __future__ import annotations

from random import Random

import pytest

from toxproxy.errors import LocalProtocolError
from toxproxy.mux import Limits, StreamDrained, frames
from toxproxy.mux.frames import Blocked, Credit, Data, Opened
from toxproxy.mux.sender import HIGH_WATER

from .pair import ROOM, TARGET, Pair, breaks_the_protocol, consume_all, decoded


def test_credit_is_given_for_consumed_bytes_not_for_received_ones() -> None:
    pair = Pair(server=Limits(early_window=1000, window=1000))
    near, far = pair.connect()
    pair.client.mux.write(near, bytes(3000))
    pair.exchange()
    assert len(pair.server.received(far)) == 1000
    pair.server.mux.consumed(far, 600)
    pair.exchange()
    assert len(pair.server.received(far)) == 1600


def test_a_reader_that_stops_pauses_only_its_own_writer() -> None:
    pair = Pair(server=Limits(window=1000, early_window=1000))
    stalled, _ = pair.connect()
    near, far = pair.connect()
    pair.client.mux.write(stalled, bytes(50_000))
    pair.client.mux.write(near, bytes(50_000))
    for _ in range(100):
        pair.exchange()
        consume_all(pair.server, far)
    assert len(pair.server.received(far)) == 50_000
    assert stalled.sender.buffered == 49_000


def test_a_writer_is_paused_and_resumed() -> None:
    pair = Pair(server=Limits(window=1 << 20))
    near, _ = pair.connect()
    assert not pair.client.mux.write(near, bytes(HIGH_WATER))
    assert pair.client.mux.write(near, b"x")
    assert not pair.client.of(StreamDrained)
    pair.exchange()
    assert pair.client.of(StreamDrained) == [StreamDrained(near)]


def test_credit_overrun() -> None:
    pair = Pair(server=Limits(window=1000, early_window=10))
    _, far = pair.request()
    breaks_the_protocol(pair.server, Data(far.id, 0, bytes(11)), "credit was 10")


def test_credit_for_what_was_never_sent() -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair.client, Credit(near.id, 1, 1000), "sent were 0")


def test_opened_with_less_than_the_early_window_does_not_lower_the_limit() -> None:
    pair = Pair(server=Limits(early_window=1000))
    near = pair.client.mux.open(TARGET, compress=False)
    pair.client.take()
    pair.client.hear(Opened(near.id, 10))
    pair.client.mux.write(near, bytes(1000))
    assert [type(frame) for frame in decoded(pair.client.take())] == [Data]
    assert near.sender.buffered == 0


def test_consuming_more_than_came_is_an_error() -> None:
    pair = Pair()
    _, far = pair.connect()
    with pytest.raises(LocalProtocolError):
        pair.server.mux.consumed(far, 1)


def test_a_packet_is_full_of_one_streams_data() -> None:
    pair = Pair()
    near, _ = pair.connect()
    body = Random(0).randbytes(50_000)
    pair.client.mux.write(near, body)
    [packet] = pair.client.take(most=1)
    assert decoded([packet]) == [Data(near.id, 0, body[: ROOM - frames.DATA_HEADER])]
    assert pair.client.mux.wants_to_send


def test_small_frames_share_a_packet() -> None:
    pair = Pair()
    streams = [pair.connect()[0] for _ in range(10)]
    for stream in streams:
        pair.client.mux.write(stream, b"x" * 90)
        pair.client.mux.finish(stream)
    [packet] = pair.client.take(most=1)
    assert len(decoded([packet])) == 20


def a_download(pair: Pair, size: int, *, keeps_up: bool = True) -> int:
    """The receive window after a download whose reader does or does not keep up."""
    near, far = pair.connect()
    pair.server.mux.write(far, bytes(size))
    for _ in range(100):
        for packet in pair.server.take():
            pair.client.receive(packet.frames)
            if keeps_up:
                consume_all(pair.client, near)
        pair.client.flush()
    return near.receiver.window.size


GROWING = Limits(window=1000, most_window=8000, session_window=64_000)


def test_a_window_grows_while_the_reader_keeps_up() -> None:
    pair = Pair(client=GROWING)
    assert a_download(pair, 100_000) == 8000


def test_a_window_does_not_grow_for_a_reader_that_stalls() -> None:
    pair = Pair(client=GROWING)
    assert a_download(pair, 100_000, keeps_up=False) == 1000


def test_a_window_does_not_grow_for_a_download_that_fits_into_it() -> None:
    pair = Pair(client=GROWING)
    assert a_download(pair, 900) == 1000


def test_a_window_grows_once_for_each_time_that_the_peer_has_used_it_up() -> None:
    pair = Pair(client=GROWING)
    near, far = pair.connect()
    pair.server.mux.write(far, bytes(100_000))
    pair.server.flush()  # BLOCKED is in the packet with the last bytes
    consume_all(pair.client, near)
    window = near.receiver.window
    assert window.size == 4000
    for limit in (1000, 1100, 1200):  # BLOCKED sent before the peer knew of the first growth
        pair.client.hear(Blocked(near.id, limit))
    assert window.size == 4000


def test_windows_share_the_memory_of_the_session() -> None:
    pair = Pair(client=Limits(least_window=10, window=1000, most_window=8000, session_window=9000))
    sizes = [a_download(pair, 50_000) for _ in range(8)]
    assert sum(sizes) <= 9000 + 8 * 10


def test_blocked_is_sent_once_for_each_limit() -> None:
    pair = Pair(client=Limits(window=1000, most_window=1000))
    _, far = pair.connect()
    for _ in range(3):
        pair.server.mux.write(far, bytes(600))
    blocked = [frame for frame in decoded(pair.server.take()) if isinstance(frame, Blocked)]
    assert blocked == [Blocked(far.id, 1000)]
