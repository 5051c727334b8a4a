"""Flow control of streams: credit, and windows that grow."""

from __future__ import annotations

from random import Random

import pytest

from toxproxy.mux import frames
from toxproxy.mux.events import StreamDrained
from toxproxy.mux.frames import Credit, Data, Opened
from toxproxy.mux.limits import Limits
from toxproxy.mux.sender import HIGH_WATER

from .pair import ROOM, TARGET, Pair, breaks_the_protocol, consume_all, decoded
from .simulated import Path, Simulation, joined


def test_credit_is_given_for_consumed_bytes_not_for_received_ones() -> None:
    pair = Pair(server=Limits(early_window=1000, window=1000))
    near, far = pair.connect()
    pair.client.mux.write(near, bytes(3000))
    pair.exchange()
    assert len(pair.server.received(far)) == 1000
    pair.server.consume(far, 600)
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


def test_a_packet_is_full_of_one_streams_data() -> None:
    pair = Pair()
    near, _ = pair.connect()
    body = Random(0).randbytes(50_000)
    pair.client.mux.write(near, body)
    [packet] = pair.client.take(most=1)
    assert decoded([packet]) == [Data(near.id, 0, body[: ROOM - frames.BULK_HEADER])]
    assert pair.client.mux.scheduler.wants_to_send


def test_small_frames_share_a_packet() -> None:
    pair = Pair()
    streams = [pair.connect()[0] for _ in range(10)]
    for stream in streams:
        pair.client.mux.write(stream, b"x" * 90)
        pair.client.mux.finish(stream)
    [packet] = pair.client.take(most=1)
    assert len(decoded([packet])) == 20


GROWING = Limits(window=16_000, most_window=128_000, session_window=1_000_000)
FAR = Path(delay=0.1, rate=1e7)


def a_download(size: int, path: Path = FAR, *, keeps_up: bool = True, streams: int = 1) -> list[int]:
    """The receive windows after downloads whose reader does or does not keep up."""
    simulation = Simulation(1, path)
    client, server = joined(simulation, client=GROWING)
    client.eager = keeps_up
    opened = [client.mux.open(TARGET) for _ in range(streams)]
    client.pump()
    simulation.rest()
    for stream in server.requested:
        server.mux.accept(stream)
        server.write(stream, Random(stream.id).randbytes(size))
    simulation.rest()
    return [stream.receiver.size for stream in opened]


@pytest.mark.parametrize("loss", [0.0, 0.05])
def test_a_window_grows_while_the_reader_keeps_up(loss: float) -> None:
    assert a_download(3_000_000, Path(delay=0.1, rate=1e7, loss=loss)) == [128_000]


def test_a_window_does_not_grow_for_a_reader_that_stalls() -> None:
    assert a_download(1_000_000, keeps_up=False) == [16_000]


def test_a_window_does_not_grow_for_a_reader_that_is_slower_than_the_path() -> None:
    pair = Pair(client=GROWING)
    near, far = pair.connect()
    pair.server.mux.write(far, Random(1).randbytes(500_000))
    pair.exchange()
    while far.sender.buffered:
        pair.client.consume(near, 4000)
        for packet in pair.client.take():
            pair.server.receive(packet.frames)
            pair.server.flush()
            pair.client.mux.scheduler.delivered(packet.contents)
    assert near.receiver.size == 16_000


def test_a_window_does_not_grow_for_a_download_that_fits_into_it() -> None:
    assert a_download(15_000) == [16_000]


@pytest.mark.parametrize("unread", [4000, 4001])
def test_a_window_that_was_used_up_grows_at_once_or_when_the_application_has_taken_these_bytes(
    unread: int,
) -> None:
    pair = Pair(client=GROWING)
    near, far = pair.connect()
    pair.server.mux.write(far, Random(1).randbytes(100_000))
    *sent, last = pair.server.take()
    [frame] = decoded([last])
    assert isinstance(frame, Data)
    pair.server.deliver(sent)
    receiver = near.receiver
    pair.client.consume(near, receiver.received - unread + len(frame.payload))
    pair.client.take()
    pair.server.deliver([last])
    assert receiver.size == (64_000 if unread == 4000 else 16_000)
    pair.client.consume(near, 100)
    assert receiver.size == 64_000


def test_a_gap_does_not_hide_that_a_window_was_used_up_and_one_credit_says_so() -> None:
    pair = Pair(client=GROWING)
    near, far = pair.connect()
    pair.server.mux.write(far, Random(1).randbytes(100_000))
    _, *sent, last = pair.server.take()
    for packet in (*sent[:-1], last, sent[-1]):
        pair.client.receive(packet.frames)
    assert near.receiver.size == 64_000
    assert decoded(pair.client.take()) == [Credit(near.id, 0, 64_000)]


def test_windows_share_the_memory_of_the_session() -> None:
    sizes = a_download(500_000, streams=20)
    assert max(sizes) > 16_000
    assert sum(sizes) <= GROWING.session_window + 20 * GROWING.least_window
