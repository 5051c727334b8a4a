"""Compressed streams: every byte arrives, and only data that shrinks is compressed."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toxproxy.mux import frames
from toxproxy.mux.compression import HISTORY, MAX_PACKED, Compressor, Decompressor
from toxproxy.mux.frames import DATA_HEADER, MAX_RAW, Data, Packed
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import Stream, StreamState

from .blocks import carry, kinds, log, noise, size
from .pair import ROOM, TARGET, Pair, a_receiver, a_sender, consume_all, read
from .simulated import Path, Peer, Simulation, joined


def tries(compressor: Compressor, data: bytes, size: int) -> list[int]:
    """Feed `data` in frames of at most `size`. Returns the offsets at which compression was tried."""
    tried = []
    at = 0
    while at < len(data):
        waiting = len(data) - at
        used = min(waiting, size)
        trying = compressor._untried <= 0
        if (packed := compressor.pack(data[at : at + MAX_RAW], waiting, size)) is not None:
            used, _ = packed
        if trying:
            tried.append(at)
        at += used
    return tried


# What goes on the wire


def test_a_log_needs_less_than_a_third() -> None:
    pair = Pair()
    near, far = pair.connect()
    carried = carry(pair.client, near, far, log(20))
    assert size(carried) < 20_000_000 / 3
    assert set(kinds(carried)) == {Packed}


def test_data_that_does_not_shrink_takes_no_more_bytes_than_uncompressed() -> None:
    pair = Pair()
    near, far = pair.connect()
    carried = carry(pair.client, near, far, noise(20_000_000))
    assert set(kinds(carried)) == {Data}
    frames_needed = -(-20_000_000 // (ROOM - DATA_HEADER))
    assert size(carried) <= 1.001 * (20_000_000 + frames_needed * DATA_HEADER)


@pytest.mark.parametrize("room", [300, 800, ROOM])
def test_a_compressed_frame_fits_into_the_packet_and_beside_the_longest_acknowledgement(room: int) -> None:
    pair = Pair()
    near, far = pair.connect()
    mixed = b"".join(
        log(1)[i : i + 50_000] + noise(20_000, i) + bytes(30_000) for i in range(0, 10**6, 10**5)
    )
    carried = carry(pair.client, near, far, mixed, room)
    assert {Data, Packed} == set(kinds(carried))
    lengths = [len(frames.encode(frame)) for frame in carried if isinstance(frame, Packed)]
    assert max(lengths) <= min(room, MAX_PACKED)
    assert MAX_PACKED == 1343 - 4 - (8 + 8) - (2 + 4 + 4 + 2 + 1 + 64 * 4)


def test_a_frame_may_hold_64_kib_and_no_more() -> None:
    pair = Pair()
    near, far = pair.connect()
    carried = carry(pair.client, near, far, bytes(1_000_000))
    assert max(frame.length for frame in carried if isinstance(frame, Packed)) == MAX_RAW


def test_a_write_of_few_bytes_is_not_compressed() -> None:
    pair = Pair()
    near, far = pair.connect()
    assert kinds(carry(pair.client, near, far, b"x" * 199)) == [Data]
    assert kinds(carry(pair.client, near, far, b"x" * 200)) == [Packed]


def test_a_small_write_refers_to_earlier_ones() -> None:
    pair = Pair()
    near, far = pair.connect()
    request = log(1)[:400]
    first = carry(pair.client, near, far, request)
    again = carry(pair.client, near, far, request[100:180])
    assert (kinds(first), kinds(again)) == ([Packed], [Packed])
    assert size(again) < 40


def test_each_direction_has_a_history_of_its_own() -> None:
    pair = Pair()
    near, far = pair.connect()
    text = log(1)
    for start in range(0, 100_000, 5000):
        carry(pair.client, near, far, text[start : start + 5000])
        carry(pair.server, far, near, text[-start - 3000 :][:3000])


# When compression is tried


def test_on_noise_compression_is_tried_less_and_less_often() -> None:
    tried = tries(Compressor(), noise(20_000_000), 1000)
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    assert gaps[:2] == [1000, 1000]
    kib = [round(gap / 1024) for gap in gaps[2:]]
    assert kib == pytest.approx([64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096], abs=2)


def test_text_after_noise_is_compressed_again_within_4_mib() -> None:
    pair = Pair()
    near, far = pair.connect()
    assert set(kinds(carry(pair.client, near, far, noise(12_000_000)))) == {Data}
    after = carry(pair.client, near, far, log(12))
    assert kinds(after)[-1] is Packed
    assert size(after) < 4 * 1024 * 1024 + 8_000_000 / 3
    assert set(kinds(carry(pair.client, near, far, log(1)))) == {Packed}


def test_a_successful_try_ends_the_pauses() -> None:
    compressor = Compressor()
    tries(compressor, noise(5_000_000), 1000)
    text = tries(compressor, log(5), 1000)
    assert text[-1] > 4_990_000
    tried = tries(compressor, noise(100_000), 1000)
    assert tried[:3] == [0, 1000, 2000]
    assert tried[3] == pytest.approx(2000 + 64 * 1024, abs=2000)


def test_a_stream_that_does_not_shrink_keeps_no_history() -> None:
    sender = a_sender(1 << 40, compress=True)
    receiver = a_receiver(1 << 40, compress=True)
    stream = Stream(1, StreamState.OPEN, sender, receiver)
    data = noise(3_000_000)
    sender.write(data)
    tracemalloc.start()
    try:
        while sender.sendable:
            segment = sender.take(stream, ROOM)
            assert segment is not None
            [frame] = read(segment.frame)
            assert isinstance(frame, Data)
            receiver.take(frame.offset, frame.offset + len(frame.payload), frame.payload)
            assert receiver.read(1 << 20)
            sender.delivered(segment)
            del segment, frame
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < HISTORY / 2


def test_a_stream_keeps_only_the_history_of_what_it_sent() -> None:
    text = log(1)
    blocks = []
    tracemalloc.start()
    try:
        for _ in range(20):
            compressor, decompressor = Compressor(), Decompressor()
            for start in range(0, 100_000, 10_000):
                raw = text[start : start + 10_000]
                packed = compressor.pack(raw, len(raw), 10_000)
                assert packed is not None
                assert decompressor.unpack(packed[1], packed[0]) == raw[: packed[0]]
            blocks.append((compressor, decompressor))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < len(blocks) * (2 * HISTORY + 1000) + 50_000


# Every byte arrives

parts = st.one_of(
    st.builds(
        lambda start, length: log(1)[start : start + length], st.integers(0, 900_000), st.integers(1, 90_000)
    ),
    st.builds(noise, st.integers(1, 40_000), st.integers(0, 9)),
    st.builds(bytes, st.integers(1, 200_000)),
    st.binary(min_size=1, max_size=40),
)


@settings(max_examples=100)
@given(st.lists(st.tuples(parts, st.integers(300, 1336)), min_size=1, max_size=12), st.integers(100, 300_000))
def test_any_sequence_of_writes_is_read(script: list[tuple[bytes, int]], credit: int) -> None:
    pair = Pair(server=Limits(early_window=0, window=credit))
    near, far = pair.connect()
    for data, room in script:
        pair.client.mux.write(near, data)
        while pair.client.flush(room):
            consume_all(pair.server, far)
            pair.server.flush()
    assert pair.server.received(far) == b"".join(data for data, _ in script)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.booleans(), parts), min_size=3, max_size=12),
    st.sampled_from(
        [Path(delay=0.01), Path(delay=0.01, loss=0.2, reordering=0.3, duplication=0.1, mistakes=0.1)]
    ),
    st.sampled_from([300, 1200, ROOM]),
    st.integers(0, 1 << 32),
)
def test_mixtures_of_text_and_noise_arrive_over_any_path(
    script: list[tuple[int, bool, bytes]], path: Path, room: int, seed: int
) -> None:
    simulation = Simulation(seed, path, room=room)
    client, server = joined(simulation)
    client.eager = server.eager = True
    for compress in (True, False, True):
        client.streams.append(client.mux.open(TARGET, compress=compress))
        client.pump()
    simulation.rest()
    for stream in list(server.requested):
        server.mux.accept(stream)
        server.streams.append(stream)
    server.streams.sort(key=lambda stream: stream.id)
    for which, from_client, data in script:
        peer: Peer = client if from_client else server
        peer.write(peer.streams[which], data)
        simulation.advance(simulation.now + 0.02)
    simulation.rest()
    for peer, other in ((client, server), (server, client)):
        assert peer.written == {number: other.got[number] for number in peer.written}
