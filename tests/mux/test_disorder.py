"""Frames that come in another order than they were sent in, twice, or only when they are sent again."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import Refusal, RemoteProtocolError, ResetCode, StreamRefused, StreamReset
from toxproxy.mux import frames
from toxproxy.mux.events import StreamClosed, StreamOpened, StreamReadable, StreamRequested
from toxproxy.mux.frames import Bulk, Credit, Data, Fin, Open, Opened, Packed, Refused, Reset
from toxproxy.mux.limits import Limits, Pool
from toxproxy.mux.multiplexer import MOST_GAPS
from toxproxy.mux.stream import StreamState

from .blocks import block_of, log
from .pair import TARGET, Pair, breaks_the_protocol, consume_all, decoded, is_over

OPEN = Open(1, 1, 5000, 80, "host")


# Data


@given(st.permutations(range(12)), st.lists(st.integers(0, 11), max_size=8))
def test_packets_of_a_stream_in_any_order_and_twice(order: list[int], again: list[int]) -> None:
    pair = Pair()
    near, far = pair.connect()
    body = Random(1).randbytes(12 * 1000)
    pair.client.mux.write(near, body)
    pair.client.mux.finish(near)
    sent = pair.client.take()
    for number in [*order, *again, *order]:
        if number < len(sent):
            assert pair.server.receive(sent[number].frames)
    assert pair.server.received(far) == body
    assert far.receiver.finished


def test_bytes_that_become_contiguous_in_one_batch_are_one_event() -> None:
    pair = Pair()
    near, far = pair.connect()
    body = Random(1).randbytes(20_000)
    pair.client.mux.write(near, body)
    sent = pair.client.take()
    sent[3], sent[7] = sent[7], sent[3]
    for packet in sent:  # the owner takes no events meanwhile
        pair.server.mux.receive(packet.frames, 0)
    pair.client.mux.finish(near)
    pair.client.deliver(pair.client.take())
    assert pair.server.of(StreamReadable) == [StreamReadable(far)]
    assert [pair.server.mux.read(far, 1 << 20) for _ in range(3)] == [body, b"", None]


def test_the_owner_is_told_again_when_it_has_read_everything() -> None:
    pair = Pair()
    _, far = pair.connect()
    told = []
    for offset, most in enumerate((9, 9, 1, 1, 9)):
        pair.server.hear(Data(far.id, offset, b"abcde"[offset : offset + 1]))
        told.append(len(pair.server.of(StreamReadable)))
        pair.server.consume(far, most)
    assert told == [1, 2, 3, 3, 3]
    pair.server.hear(Fin(far.id, 5))
    assert len(pair.server.of(StreamReadable)) == 4


def test_what_came_before_a_reset_can_be_read_and_is_not_credited() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.write(near, b"last words")
    pair.client.flush()
    pair.client.mux.reset(near, ResetCode.CONNECTION_RESET)
    pair.exchange()
    assert far.state is StreamState.CLOSED
    assert pair.server.mux.read(far, 4) == b"last"
    assert pair.server.received(far) == b" words"
    assert not pair.server.mux.scheduler.wants_to_send


def test_every_cut_of_a_packet_is_the_peers_error_or_whole_frames() -> None:
    several: list[frames.Frame] = [
        Data(1, 0, b"hello"),
        Fin(1, 5),
        Credit(1, 0, 9),
        Open(3, 1, 0, 80, "host"),
    ]
    packet = b"".join(map(frames.encode, several))
    whole = {0}
    at = 0
    while at < len(packet):
        _, at = frames.decode(packet, at)
        whole.add(at)
    for length in range(len(packet) + 1):
        pair = Pair()
        pair.connect()
        if length in whole:
            assert pair.server.receive(packet[:length])
        else:
            with pytest.raises(RemoteProtocolError, match="cut short"):
                pair.server.receive(packet[:length])


def test_lost_data_is_sent_again_without_credit() -> None:
    pair = Pair(server=Limits(window=1000))
    near, far = pair.connect()
    pair.client.mux.write(near, Random(1).randbytes(1000))
    sent = pair.client.take()
    assert not pair.client.mux.scheduler.wants_to_send
    pair.client.lose(sent)
    assert pair.client.mux.scheduler.wants_to_send
    pair.client.flush()
    assert len(pair.server.received(far)) == 1000


def test_what_is_acknowledged_is_not_sent_again() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, bytes(range(256)) * 40)
    pair.client.mux.finish(near)
    pair.client.mux.open(TARGET)
    sent = pair.client.take()
    pair.client.deliver(sent)
    pair.client.lose([packet for packet in sent if Fin not in map(type, decoded([packet]))])
    again = decoded(pair.client.take())
    assert [frame for frame in again if isinstance(frame, (Data, Packed, Fin))] == []


# PACKED


@given(st.permutations(range(8)))
def test_blocks_in_any_order(order: list[int]) -> None:
    pair = Pair()
    near, far = pair.connect()
    body = log(1)[:40_000]
    pair.client.mux.write(near, body)
    sent = pair.client.take()
    assert len(sent) >= 8
    for number in order:
        assert pair.server.receive(sent[number].frames)
    for packet in sent[8:] + sent:
        assert pair.server.receive(packet.frames)
    assert pair.server.received(far) == body


def test_a_lost_block_is_sent_again_as_it_was() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.write(near, log(1)[:40_000])
    sent = pair.client.take()
    pair.client.deliver(sent[2:])
    pair.client.lose(sent[:2])
    again = pair.client.take(room=1053)
    assert decoded(again) == decoded(sent[:2])
    pair.client.deliver(again)
    assert pair.server.received(far) == log(1)[:40_000]


def test_a_bad_block_is_found_when_its_turn_comes() -> None:
    pair = Pair()
    _, far = pair.connect()
    pair.server.hear(Packed(far.id, 5, 100, b"bad"))
    breaks_the_protocol(pair.server, Data(far.id, 0, b"hello"), "not LZ4")


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (2, 1, 0), (1, 0, 2), (1, 1, 0, 2, 1)])
def test_a_block_that_overlaps_with_other_bytes(order: tuple[int, ...]) -> None:
    pair = Pair()
    _, far = pair.connect()
    block = block_of(b"lo, worl")
    said: list[frames.Frame] = [Data(1, 0, b"hello"), Packed(1, 3, 8, block), Data(1, 9, b"rld!")]
    for number in order:
        assert pair.server.hear(said[number])
    assert pair.server.received(far) == b"hello, world!"


# OPEN


def test_frames_that_come_before_their_open_cost_no_memory_and_come_again() -> None:
    pair = Pair()
    near = pair.client.mux.open(TARGET, compress=False)
    opening = pair.client.take()
    pair.client.mux.write(near, b"GET / ")
    first = pair.client.take()
    pair.client.mux.write(near, log(1)[:500])
    pair.client.mux.finish(near)
    rest = pair.client.take()
    for sent in (rest, first):
        assert not any(pair.server.receive(packet.frames) for packet in sent)
        pair.client.lose(sent)
        assert not pair.server.events
        assert not pair.server.mux.streams
    pair.client.deliver(opening)
    pair.exchange()
    assert [type(event) for event in pair.server.events] == [StreamRequested, StreamReadable]
    far = pair.server.mux.streams[near.id]
    assert pair.server.received(far) == b"GET / " + log(1)[:500]
    pair.server.mux.accept(far)
    pair.server.mux.finish(far)
    consume_all(pair.server, far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.exchange()
    assert is_over(pair)


@pytest.mark.parametrize(
    "early",
    [
        Data(1, 3, b"x"),
        Packed(1, 0, 5, block_of(b"hello")),
        Fin(1, 0),
        Credit(1, 0, 9000),
    ],
)
def test_a_frame_that_comes_before_open_is_handled_when_it_comes_again(early: frames.Frame) -> None:
    pair = Pair()
    assert not pair.server.hear(early)
    assert pair.server.hear(OPEN)
    assert pair.server.hear(early)
    [request] = pair.server.of(StreamRequested)
    assert request.stream.sender.limit == (9000 if isinstance(early, Credit) else 5000)


def test_a_stream_that_is_reset_before_its_open_comes_is_never_opened() -> None:
    pair = Pair()
    said: list[frames.Frame] = [Reset(1, 2), OPEN, Data(1, 0, b"y"), OPEN, Reset(1, 2)]
    assert all(pair.server.hear(frame) for frame in said)
    assert not pair.server.events
    assert is_over(pair)


def test_the_frames_of_a_request_beyond_the_limit_are_late() -> None:
    pair = Pair(server=Limits(streams=0))
    assert not pair.server.hear(Data(1, 0, b"x"))
    pair.server.hear(OPEN)
    assert [type(frame) for frame in decoded(pair.server.take())] == [Refused]
    assert pair.server.hear(Data(1, 0, b"x"))


def test_the_same_open_again() -> None:
    pair = Pair()
    pair.server.hear(OPEN)
    far = pair.server.mux.streams[1]
    pair.server.hear(OPEN)
    pair.server.mux.accept(far)
    pair.server.hear(OPEN)
    pair.server.mux.reset(far, ResetCode.CANCELLED)
    pair.server.hear(OPEN)
    assert len(pair.server.of(StreamRequested)) == len(pair.server.of(StreamClosed)) == 1
    assert not pair.server.mux.streams


def test_another_open_with_the_same_id() -> None:
    pair = Pair()
    pair.server.hear(OPEN)
    breaks_the_protocol(pair.server, OPEN._replace(host="other"), "second OPEN")


def test_a_refused_open_again_is_not_refused_again() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.mux.refuse(far, Refusal.FAILED, "no")
    pair.exchange()
    pair.server.hear(Open(near.id, 1, near.receiver.limit, TARGET.port, TARGET.host))
    assert not pair.server.mux.scheduler.wants_to_send


def test_ids_with_many_gaps() -> None:
    pair = Pair()
    for number in range(MOST_GAPS + 1):
        assert pair.server.hear(Reset(4 * number + 1, 1))
    assert pair.server.hear(Reset(3, 1)), "it fills a gap"
    assert pair.server.hear(Reset(4 * MOST_GAPS + 5, 1))
    breaks_the_protocol(pair.server, Reset(4 * MOST_GAPS + 9, 1), "gaps")


def test_an_id_that_cannot_be() -> None:
    for side in (Pair().client, Pair().server):
        breaks_the_protocol(side, Data(0, 0, b"x"), "never opened")


@pytest.mark.parametrize("frame", [Data(3, 0, b"x"), Fin(3, 0), Reset(3, 1), Credit(3, 0, 0)])
def test_a_frame_for_a_stream_of_this_side_that_was_never_opened(frame: frames.Frame) -> None:
    pair = Pair()
    pair.connect()
    breaks_the_protocol(pair.client, frame, "never opened")


# Answers and ends


def test_a_lost_answer_does_not_delay_what_follows_it() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.mux.accept(far)
    lost = pair.server.take()
    pair.server.mux.write(far, b"banner")
    pair.server.flush()
    assert pair.client.events == [StreamOpened(near), StreamReadable(near)]
    assert pair.client.received(near) == b"banner"
    assert near.sender.limit == Limits().early_window
    pair.server.lose(lost)
    pair.server.flush()
    assert near.sender.limit == far.receiver.limit
    assert len(pair.client.of(StreamOpened)) == 1


def test_a_requested_stream_that_was_not_accepted_gets_no_credit() -> None:
    """It would say that the stream was accepted."""
    pair = Pair()
    near, far = pair.request()
    pair.client.mux.write(near, bytes(10_000))
    pair.client.mux.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    assert not pair.server.take()
    pair.server.mux.accept(far)
    assert [type(frame) for frame in decoded(pair.server.take())] == [Opened, Credit]


@pytest.mark.parametrize("losses", [1, 3])
def test_the_last_credit_of_a_closed_stream_is_sent_again(losses: int) -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.finish(near)
    pair.server.mux.finish(far)
    pair.exchange()
    consume_all(pair.server, far)
    pair.server.flush()
    consume_all(pair.client, near)
    assert not pair.client.mux.streams, "both directions are done here"
    for _ in range(losses):
        pair.client.lose(pair.client.take())
    assert pair.server.mux.streams
    pair.exchange()
    assert is_over(pair)
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]


def test_a_lost_credit_is_sent_again_with_the_newest_values() -> None:
    pair = Pair(server=Limits(early_window=0, window=10_000))
    near, far = pair.connect()
    pair.client.mux.write(near, Random(1).randbytes(10_000))
    pair.exchange()
    pair.server.consume(far, 4000)
    lost = pair.server.take()
    pair.server.consume(far, 2000)
    pair.server.lose(lost)
    assert decoded(pair.server.take()) == [Credit(far.id, 6000, 16_000)]


def test_nothing_of_a_stream_is_sent_again_after_its_reset_but_the_reset() -> None:
    pair = Pair()
    near = pair.client.mux.open(TARGET)
    pair.client.mux.write(near, bytes(1000))
    pair.client.mux.finish(near)
    sent = pair.client.take()
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    sent += pair.client.take()
    pair.client.lose(sent)
    again = pair.client.take()
    assert decoded(again) == [Reset(near.id, ResetCode.CANCELLED)]
    pair.client.deliver(again)
    pair.client.deliver(sent)
    assert not pair.server.events
    assert is_over(pair)


def test_a_lost_credit_of_a_stream_that_was_reset_is_not_sent_again() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    lost = pair.server.take()
    assert [type(frame) for frame in decoded(lost)] == [Credit]
    pair.server.mux.reset(far, ResetCode.CANCELLED)
    pair.server.take()
    pair.server.lose(lost)
    assert not pair.server.take()


def test_lost_answers_are_sent_again() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.mux.refuse(far, Refusal.FAILED, "no")
    pair.server.lose(pair.server.take())
    pair.server.flush()
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamRefused)
    near, far = pair.connect()
    pair.server.mux.reset(far, ResetCode.CANCELLED)
    pair.server.lose(pair.server.take())
    pair.server.flush()
    closed = pair.client.of(StreamClosed)[-1]
    assert closed.stream is near
    assert isinstance(closed.error, StreamReset)


def test_a_refusal_after_data() -> None:
    pair = Pair()
    near, _ = pair.request()
    pair.client.hear(Data(near.id, 0, b"x"))
    breaks_the_protocol(pair.client, Refused(near.id, 1, ""), "second answer")


# Memory


def test_segments_ahead_of_a_gap_are_bounded_by_more_than_their_bytes() -> None:
    pair = Pair(server=Limits(window=100_000))
    _, far = pair.connect()
    stored = 0
    while pair.server.hear(Data(far.id, 2 * stored + 1, b"x")):
        stored += 1
        assert stored < 2000
    assert stored == 2 * 100_000 // (128 + 1)
    assert pair.server.hear(Data(far.id, 0, b"x")), "it continues the stream"
    assert pair.server.received(far) == b"xx"
    for offset in range(2, 2 * stored, 2):
        assert pair.server.hear(Data(far.id, offset, b"y"))
    assert pair.server.received(far) == b"xx" + b"yx" * (stored - 1)
    assert pair.server.hear(Data(far.id, 2 * stored + 1, b"x"))


def test_an_honest_window_full_of_packets_is_stored_behind_one_gap() -> None:
    pair = Pair()
    near, far = pair.connect()
    body = Random(1).randbytes(near.sender.limit)
    pair.client.mux.write(near, body)
    first, *rest = pair.client.take()
    for packet in rest:
        assert pair.server.receive(packet.frames)
    assert not pair.server.received(far)
    assert pair.server.receive(first.frames)
    assert pair.server.received(far) == body


@pytest.mark.parametrize("ahead", [0, 5])
def test_bulk_frames_go_on_beyond_4_gib(ahead: int) -> None:
    pair = Pair(client=Limits(window=1 << 20))
    near, _ = pair.connect()
    receiver, before = near.receiver, (1 << 32) - 3
    receiver.received = receiver.consumed = before
    receiver.grant()
    pair.client.hear(Bulk(near.id, (before + ahead) & 0xFFFF_FFFF, b"abcde"))
    if ahead:
        pair.client.hear(Bulk(near.id, before, b"vwxyz"))
    assert receiver.received == before + 5 + ahead
    assert pair.client.received(near) == (b"vwxyzabcde" if ahead else b"abcde")
    pair.client.hear(Bulk(near.id, before - 1, b"vwxyz"))  # what came before
    assert receiver.received == before + 5 + ahead


def test_bulk_frames_beyond_the_limit() -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair.client, Bulk(near.id, near.receiver.limit - 1, b"ab"), "credit was")


def test_a_packet_that_was_not_stored_is_taken_when_it_comes_again() -> None:
    pair = Pair(server=Limits(early_window=0, window=400))
    near, far = pair.connect()
    pair.client.mux.write(near, bytes(range(200)))
    sent = pair.client.take(room=32)
    pair.client.deliver(sent[:0:-1])  # all but the first, the last one first
    assert not pair.server.received(far)
    assert pair.client.mux.scheduler.wants_to_send, "some were refused"
    pair.client.deliver(sent[:1])
    pair.exchange()
    assert pair.server.received(far) == bytes(range(200))


def test_a_stream_that_ends_returns_what_it_held() -> None:
    pool = Pool(64 << 20)
    pair = Pair(server=Limits(pool=pool))
    before = pool.left
    pair.server.hear(Data(1, 100, bytes(1000)), Data(3, 0, bytes(1000)), OPEN)
    assert pool.left < before
    pair.server.hear(Reset(1, 1), Reset(3, 1))
    assert pool.left == before


def test_what_comes_again_after_the_end_was_read_is_not_told() -> None:
    pair = Pair()
    pair.server.hear(OPEN, Data(1, 0, b"abc"), Fin(1, 3))
    stream = pair.server.mux.streams[1]
    pair.server.mux.accept(stream)
    assert [pair.server.mux.read(stream, 9) for _ in "123"] == [b"abc", b"", None]
    told = len(pair.server.of(StreamReadable))
    pair.server.hear(Data(1, 0, b"abc"), Fin(1, 3))
    assert len(pair.server.of(StreamReadable)) == told
