"""How a stream is opened, answered and numbered."""

from __future__ import annotations

import struct

import pytest

from toxproxy.address import Target
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.mux import frames
from toxproxy.mux.events import StreamClosed, StreamOpened, StreamRequested
from toxproxy.mux.frames import Credit, Data, Fin, Open, Opened, Packed, Refused, Reset
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import StreamState

from .blocks import block_of
from .pair import TARGET, Pair, breaks_the_protocol, decoded, is_over


def test_opened() -> None:
    pair = Pair()
    near, far = pair.request()
    [request] = pair.server.of(StreamRequested)
    assert request.target == TARGET
    assert (near.state, far.state) == (StreamState.OPENING, StreamState.REQUESTED)
    pair.server.mux.accept(far)
    pair.exchange()
    assert pair.client.of(StreamOpened) == [StreamOpened(near)]
    assert (near.state, far.state) == (StreamState.OPEN, StreamState.OPEN)


@pytest.mark.parametrize("port", [70000, "80"])
def test_a_target_that_no_frame_can_carry_opens_no_stream(port: object) -> None:
    pair = Pair()
    target = Target("host.example", 80)
    object.__setattr__(target, "port", port)
    with pytest.raises(struct.error):
        pair.client.mux.open(target)
    pair.exchange()
    assert is_over(pair)
    near, _ = pair.connect()
    assert near.state is StreamState.OPEN


def test_the_server_opens_too() -> None:
    pair = Pair()
    far = pair.server.mux.open(TARGET)
    pair.exchange()
    [request] = pair.client.of(StreamRequested)
    pair.client.mux.accept(request.stream)
    pair.exchange()
    assert far.state is StreamState.OPEN
    assert far.id % 2 == 0


def test_both_sides_open_at_once() -> None:
    pair = Pair()
    mine, yours = pair.client.mux.open(TARGET), pair.server.mux.open(TARGET)
    pair.exchange()
    for side in (pair.client, pair.server):
        [request] = side.of(StreamRequested)
        side.mux.accept(request.stream)
    pair.exchange()
    assert mine.state is yours.state is StreamState.OPEN


def test_refused() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.mux.refuse(far, Refusal.CONNECTION_REFUSED, "nobody listens")
    pair.exchange()
    [closed] = pair.client.of(StreamClosed)
    assert closed.stream is near
    assert isinstance(closed.error, StreamRefused)
    assert (closed.error.code, closed.error.text) == (Refusal.CONNECTION_REFUSED, "nobody listens")
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_early_data_arrives_before_the_answer() -> None:
    pair = Pair()
    near = pair.client.mux.open(TARGET)
    pair.client.mux.write(near, b"GET /")
    pair.client.mux.finish(near)
    pair.exchange()
    [request] = pair.server.of(StreamRequested)
    assert pair.server.received(request.stream) == b"GET /"
    assert request.stream.receiver.finished


def test_early_data_stops_at_the_early_window_and_goes_on_when_opened() -> None:
    pair = Pair(server=Limits(early_window=1000, window=5000))
    near = pair.client.mux.open(TARGET)
    pair.client.mux.write(near, bytes(9000))
    pair.exchange()
    [request] = pair.server.of(StreamRequested)
    assert len(pair.server.received(request.stream)) == 1000
    pair.server.mux.accept(request.stream)
    pair.exchange()
    assert len(pair.server.received(request.stream)) == 5000


def test_refused_with_early_data_in_flight() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.mux.write(near, b"early")
    early = pair.client.take()
    pair.server.mux.refuse(far, Refusal.NOT_PERMITTED, "")
    for packet in early:
        pair.server.receive(packet.frames)
    pair.exchange()
    assert isinstance(pair.client.of(StreamClosed)[0].error, StreamRefused)
    assert not pair.server.received(far)
    assert is_over(pair)


def test_refused_with_early_data_still_queued() -> None:
    pair = Pair(server=Limits(early_window=10))
    near, far = pair.request()
    pair.client.mux.write(near, bytes(1000))
    pair.exchange()
    pair.server.mux.refuse(far, Refusal.NOT_PERMITTED, "")
    pair.exchange()
    assert near.sender.buffered == 0
    assert is_over(pair)


def test_bytes_written_before_the_answer_follow_it() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.mux.write(far, b"banner")
    assert not pair.server.take()
    pair.server.mux.accept(far)
    window = far.receiver.limit
    assert decoded(pair.server.take()) == [Opened(near.id, window), Data(near.id, 0, b"banner")]


def test_reset_by_the_opener_before_the_answer() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    pair.server.mux.accept(far)
    pair.exchange()
    assert not pair.client.of(StreamOpened)
    [closed] = pair.server.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.CANCELLED
    assert is_over(pair)


def test_a_stream_that_waits_for_no_answer_gets_none() -> None:
    pair = Pair()
    near, far = pair.connect()
    for side, stream in ((pair.client, near), (pair.server, far)):
        assert not side.mux.accept(stream)
        side.mux.refuse(stream, Refusal.FAILED, "")
        assert not side.take()
        assert side.mux.streams


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_another_answer_from_the_peer(answer: frames.Frame) -> None:
    pair = Pair()
    pair.connect()
    breaks_the_protocol(pair.client, answer, "second answer")


def test_the_same_answer_from_the_peer_again() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.events.clear()
    pair.client.hear(Opened(near.id, far.receiver.limit))
    assert not pair.client.events


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_an_answer_from_the_opener(answer: frames.Frame) -> None:
    pair = Pair()
    pair.request()
    breaks_the_protocol(pair.server, answer, "answer")


@pytest.mark.parametrize(
    "frame", [Data(1, 0, b"x"), Packed(1, 0, 5, block_of(b"hello")), Fin(1, 0), Credit(1, 0, 9)]
)
def test_data_or_credit_before_opened_says_that_the_stream_is_open(frame: frames.Frame) -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.hear(frame)
    assert pair.client.events[0] == StreamOpened(near)
    pair.server.mux.accept(far)
    pair.exchange()
    assert near.sender.limit == far.receiver.limit
    assert pair.client.of(StreamOpened) == [StreamOpened(near)]


def test_an_unknown_kind_of_stream() -> None:
    pair = Pair()
    pair.server.hear(Open(1, 9, 0, 80, "host"))
    [answer] = decoded(pair.server.take())
    assert isinstance(answer, Refused)
    assert answer.code == Refusal.UNSUPPORTED
    assert not pair.server.mux.streams


def test_one_stream_more_than_allowed() -> None:
    pair = Pair(server=Limits(streams=2))
    for number in (1, 3, 5):
        pair.server.hear(Open(number, 1, 0, 80, "host"))
    [answer] = decoded(pair.server.take())
    assert isinstance(answer, Refused)
    assert (answer.stream, answer.code) == (5, Refusal.TOO_MANY_STREAMS)
    pair.server.hear(Reset(1, 1))
    pair.server.hear(Open(7, 1, 0, 80, "host"))
    assert pair.server.of(StreamRequested)[-1].stream.id == 7


@pytest.mark.parametrize("number", [0, 2, 4])
def test_an_id_that_the_peer_may_not_open(number: int) -> None:
    pair = Pair()
    pair.connect()
    breaks_the_protocol(pair.server, Open(number, 1, 0, 80, "host"), f"stream id {number}")


def test_the_id_that_nobody_may_open() -> None:
    breaks_the_protocol(Pair().client, Open(0, 1, 0, 80, "host"), "stream id 0")


def test_ids_are_never_used_twice() -> None:
    pair = Pair()
    seen = set()
    for _ in range(50):
        near, far = pair.request()
        pair.server.mux.refuse(far, Refusal.FAILED, "")
        pair.exchange()
        seen.add(near.id)
    assert seen == set(range(1, 100, 2))


def test_a_session_that_has_used_up_its_ids() -> None:
    pair = Pair()
    pair.client.mux._next_id = frames.MAX_STREAM
    near, far = pair.connect()
    assert near.id == far.id == frames.MAX_STREAM
    with pytest.raises(StreamRefused, match="as many connections as it can"):
        pair.client.mux.open(TARGET)


def test_a_closed_stream_makes_room_for_another() -> None:
    pair = Pair(server=Limits(streams=1))
    for _ in range(3):
        near, _ = pair.connect()
        pair.client.mux.reset(near, ResetCode.CANCELLED)
        pair.exchange()
