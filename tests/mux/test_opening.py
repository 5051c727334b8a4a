"""How a stream is opened, answered and numbered."""

from __future__ import annotations

import struct

import pytest

from toxproxy.address import Target
from toxproxy.errors import LocalProtocolError, Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.mux import EndReceived, Limits, StreamClosed, StreamOpened, StreamRequested, frames
from toxproxy.mux.frames import Data, Fin, Open, Opened, Refused, Reset
from toxproxy.mux.stream import StreamState

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
    assert not pair.server.of(StreamClosed)
    assert is_over(pair)


def test_early_data_arrives_before_the_answer() -> None:
    pair = Pair()
    near = pair.client.mux.open(TARGET)
    pair.client.mux.write(near, b"GET /")
    pair.client.mux.finish(near)
    pair.exchange()
    [request] = pair.server.of(StreamRequested)
    assert pair.server.received(request.stream) == b"GET /"
    assert pair.server.of(EndReceived) == [EndReceived(request.stream)]


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
    window = far.receiver.window.limit
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


def test_answering_a_stream_that_waits_for_no_answer_is_an_error() -> None:
    pair = Pair()
    near, far = pair.connect()
    for side, stream in ((pair.client, near), (pair.server, far)):
        with pytest.raises(LocalProtocolError, match="requested"):
            side.mux.accept(stream)
        with pytest.raises(LocalProtocolError, match="requested"):
            side.mux.refuse(stream, Refusal.FAILED, "")


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_a_second_answer_from_the_peer(answer: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair.client, answer, "second answer")


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_an_answer_from_the_opener(answer: frames.Frame) -> None:
    pair = Pair()
    _, far = pair.request()
    breaks_the_protocol(pair.server, answer, "answer")


@pytest.mark.parametrize("frame", [Data(1, 0, b"x"), Fin(1, 0)])
def test_data_before_opened(frame: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.request()
    breaks_the_protocol(pair.client, frame, "before OPENED")


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


@pytest.mark.parametrize("number", [0, 2, 4, 1])
def test_an_id_that_the_peer_may_not_open(number: int) -> None:
    pair = Pair()
    pair.connect()  # stream 1
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
    pair.client.mux._streams._next_id = frames.MAX_STREAM
    near, far = pair.connect()
    assert near.id == far.id == frames.MAX_STREAM
    with pytest.raises(StreamRefused, match="as many connections as it can"):
        pair.client.mux.open(TARGET)


def test_more_streams_than_channels() -> None:
    pair = Pair(channels=4)
    streams = [pair.connect() for _ in range(10)]
    for number, (near, far) in enumerate(streams):
        assert near.channel == far.channel
        pair.client.mux.write(near, b"%d" % number)
    pair.exchange()
    for number, (_, far) in enumerate(streams):
        assert pair.server.received(far) == b"%d" % number
    assert {near.channel for near, _ in streams} == {1, 2, 3}


def test_past_254_streams_channels_are_shared_evenly() -> None:
    pair = Pair()
    channels = [pair.client.mux.open(TARGET).channel for _ in range(2 * 254)]
    assert all(channels.count(channel) == 2 for channel in range(1, 255))


def test_a_closed_stream_makes_room_for_another() -> None:
    pair = Pair(server=Limits(streams=1))
    for _ in range(3):
        near, _ = pair.connect()
        pair.client.mux.reset(near, ResetCode.CANCELLED)
        pair.exchange()


def test_a_closed_stream_releases_its_channel() -> None:
    pair = Pair(channels=3)
    kept, _ = pair.connect()
    for _ in range(5):
        near, far = pair.connect()
        assert near.channel != kept.channel
        pair.server.mux.reset(far, ResetCode.CANCELLED)
        pair.exchange()


def test_streams_of_one_side_avoid_the_channels_of_the_other() -> None:
    pair = Pair(channels=4)
    mine = [pair.connect()[0].channel for _ in range(2)]
    assert pair.server.mux.open(TARGET).channel not in mine
