"""A stream's life between two connections, one test for each situation."""

from __future__ import annotations

import pytest

from toxproxy.errors import (
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    ResetCode,
    StreamRefused,
    StreamReset,
)
from toxproxy.mux import (
    EndReceived,
    GoAwayReceived,
    Limits,
    Stream,
    StreamClosed,
    StreamDrained,
    StreamOpened,
    StreamRequested,
    frames,
)
from toxproxy.mux.frames import Credit, Data, Fin, GoAway, Open, Opened, Refused, Reset
from toxproxy.mux.stream import HIGH_WATER, StreamState

from .pair import TARGET, Pair, Side, decoded


def consume_all(side: Side, stream: Stream) -> None:
    """The application takes everything that came, the end included."""
    window = stream.receiver.window
    side.connection.consumed(stream, window.received - window.consumed)


def is_over(pair: Pair) -> bool:
    """Whether no side knows of a stream or has anything to send."""
    sides = (pair.client.connection, pair.server.connection)
    return not any(side.streams or side.wants_to_send for side in sides)


def breaks_the_protocol(pair: Pair, side: Side, channel: int, frame: frames.Frame, match: str) -> None:
    """`frame` ends the session, and the side that sent it is told why."""
    with pytest.raises(RemoteProtocolError, match=match) as caught:
        side.hear(channel, frame)
    side.flush()
    [gone] = side.peer.of(GoAwayReceived)
    assert gone.text == str(caught.value)
    assert is_over(pair)


# Opening


def test_opened() -> None:
    pair = Pair()
    near, far = pair.request()
    [request] = pair.server.of(StreamRequested)
    assert request.target == TARGET
    assert (near.state, far.state) == (StreamState.OPENING, StreamState.REQUESTED)
    pair.server.connection.accept(far)
    pair.exchange()
    assert pair.client.of(StreamOpened) == [StreamOpened(near)]
    assert (near.state, far.state) == (StreamState.OPEN, StreamState.OPEN)


def test_the_server_opens_too() -> None:
    pair = Pair()
    far = pair.server.connection.open(TARGET)
    pair.exchange()
    [request] = pair.client.of(StreamRequested)
    pair.client.connection.accept(request.stream)
    pair.exchange()
    assert far.state is StreamState.OPEN
    assert far.id % 2 == 0


def test_both_sides_open_at_once() -> None:
    pair = Pair()
    mine, yours = pair.client.connection.open(TARGET), pair.server.connection.open(TARGET)
    pair.exchange()
    for side in (pair.client, pair.server):
        [request] = side.of(StreamRequested)
        side.connection.accept(request.stream)
    pair.exchange()
    assert mine.state is yours.state is StreamState.OPEN


def test_refused() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.connection.refuse(far, Refusal.CONNECTION_REFUSED, "nobody listens")
    pair.exchange()
    [closed] = pair.client.of(StreamClosed)
    assert closed.stream is near
    assert isinstance(closed.error, StreamRefused)
    assert (closed.error.code, closed.error.text) == (Refusal.CONNECTION_REFUSED, "nobody listens")
    assert not pair.server.of(StreamClosed)
    assert is_over(pair)


def test_early_data_arrives_before_the_answer() -> None:
    pair = Pair()
    near = pair.client.connection.open(TARGET)
    pair.client.connection.write(near, b"GET /")
    pair.client.connection.finish(near)
    pair.exchange()
    [request] = pair.server.of(StreamRequested)
    assert pair.server.received(request.stream) == b"GET /"
    assert pair.server.of(EndReceived) == [EndReceived(request.stream)]


def test_early_data_stops_at_the_early_window_and_goes_on_when_opened() -> None:
    pair = Pair(server=Limits(early_window=1000, window=5000))
    near = pair.client.connection.open(TARGET)
    pair.client.connection.write(near, bytes(9000))
    pair.exchange()
    [request] = pair.server.of(StreamRequested)
    assert len(pair.server.received(request.stream)) == 1000
    pair.server.connection.accept(request.stream)
    pair.exchange()
    assert len(pair.server.received(request.stream)) == 5000


def test_refused_with_early_data_in_flight() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.connection.write(near, b"early")
    early = pair.client.take()
    pair.server.connection.refuse(far, Refusal.NOT_PERMITTED, "")
    for channel, message in early:
        pair.server.receive(channel, message)
    pair.exchange()
    assert isinstance(pair.client.of(StreamClosed)[0].error, StreamRefused)
    assert not pair.server.received(far)
    assert is_over(pair)


def test_refused_with_early_data_still_queued() -> None:
    pair = Pair(server=Limits(early_window=10))
    near, far = pair.request()
    pair.client.connection.write(near, bytes(1000))
    pair.exchange()
    pair.server.connection.refuse(far, Refusal.NOT_PERMITTED, "")
    pair.exchange()
    assert near.sender.buffered == 0
    assert is_over(pair)


def test_what_the_far_side_writes_before_it_accepts_follows_the_answer() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.server.connection.write(far, b"banner")
    assert not pair.server.take()
    pair.server.connection.accept(far)
    assert decoded(pair.server.take()) == [Opened(near.id, 256 * 1024), Data(near.id, 0, b"banner")]


def test_given_up_before_the_answer() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.connection.reset(near, ResetCode.CANCELLED)
    pair.server.connection.accept(far)
    pair.exchange()
    assert not pair.client.of(StreamOpened)
    [closed] = pair.server.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.CANCELLED
    assert is_over(pair)


def test_an_answer_to_a_stream_that_needs_none() -> None:
    pair = Pair()
    near, far = pair.connect()
    for side, stream in ((pair.client, near), (pair.server, far)):
        with pytest.raises(LocalProtocolError, match="requested"):
            side.connection.accept(stream)
        with pytest.raises(LocalProtocolError, match="requested"):
            side.connection.refuse(stream, Refusal.FAILED, "")


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_a_second_answer_from_the_peer(answer: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair, pair.client, near.channel, answer, "second answer")


@pytest.mark.parametrize("answer", [Opened(1, 0), Refused(1, 1, "")])
def test_the_opener_answers_itself(answer: frames.Frame) -> None:
    pair = Pair()
    _, far = pair.request()
    breaks_the_protocol(pair, pair.server, far.channel, answer, "answer")


@pytest.mark.parametrize("frame", [Data(1, 0, b"x"), Fin(1, 0)])
def test_data_before_opened(frame: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.request()
    breaks_the_protocol(pair, pair.client, near.channel, frame, "before OPENED")


def test_a_kind_of_stream_that_is_not_known() -> None:
    pair = Pair()
    pair.server.hear(1, Open(1, 9, 0, 80, "host"))
    [answer] = decoded(pair.server.take())
    assert isinstance(answer, Refused)
    assert answer.code == Refusal.UNSUPPORTED
    assert not pair.server.connection.streams


def test_one_stream_more_than_allowed() -> None:
    pair = Pair(server=Limits(streams=2))
    for number in (1, 3, 5):
        pair.server.hear(1, Open(number, 1, 0, 80, "host"))
    [answer] = decoded(pair.server.take())
    assert isinstance(answer, Refused)
    assert (answer.stream, answer.code) == (5, Refusal.TOO_MANY_STREAMS)
    pair.server.hear(1, Reset(1, 1))
    pair.server.hear(1, Open(7, 1, 0, 80, "host"))
    assert pair.server.of(StreamRequested)[-1].stream.id == 7


@pytest.mark.parametrize("number", [0, 2, 4, 1])
def test_an_id_that_the_peer_may_not_open(number: int) -> None:
    pair = Pair()
    pair.connect()  # stream 1 lives
    breaks_the_protocol(pair, pair.server, 1, Open(number, 1, 0, 80, "host"), f"stream id {number}")


def test_ids_are_never_used_twice() -> None:
    pair = Pair()
    seen = set()
    for _ in range(50):
        near, far = pair.request()
        pair.server.connection.refuse(far, Refusal.FAILED, "")
        pair.exchange()
        seen.add(near.id)
    assert seen == set(range(1, 100, 2))


def test_a_session_that_has_used_up_its_ids() -> None:
    pair = Pair()
    pair.client.connection._next_id = frames.MAX_STREAM
    near, far = pair.connect()
    assert near.id == far.id == frames.MAX_STREAM
    with pytest.raises(StreamRefused, match="as many connections as it can"):
        pair.client.connection.open(TARGET)


def test_more_streams_than_channels() -> None:
    pair = Pair(channels=4)
    streams = [pair.connect() for _ in range(10)]
    for number, (near, far) in enumerate(streams):
        assert near.channel == far.channel
        pair.client.connection.write(near, b"%d" % number)
    pair.exchange()
    for number, (_, far) in enumerate(streams):
        assert pair.server.received(far) == b"%d" % number
    assert {near.channel for near, _ in streams} == {1, 2, 3}


def test_past_254_streams_channels_are_shared_evenly() -> None:
    pair = Pair()
    channels = [pair.client.connection.open(TARGET).channel for _ in range(2 * 254)]
    assert all(channels.count(channel) == 2 for channel in range(1, 255))


# Half-close


def test_the_client_ends_first() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.server.connection.write(far, b"an answer")
    pair.server.connection.finish(far)
    pair.exchange()
    assert pair.client.received(near) == b"an answer"
    assert not pair.client.of(StreamClosed)
    consume_all(pair.client, near)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_the_server_ends_first() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.server.connection.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.client.connection.write(near, b"still talking")
    pair.client.connection.finish(near)
    pair.exchange()
    assert pair.server.received(far) == b"still talking"
    consume_all(pair.server, far)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_both_end_at_once() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.finish(near)
    pair.server.connection.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    consume_all(pair.server, far)
    pair.exchange()
    assert is_over(pair)


def test_ended_before_the_answer() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.connection.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.exchange()
    assert near.state is StreamState.OPENING
    pair.server.connection.accept(far)
    pair.server.connection.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.exchange()
    assert is_over(pair)


def test_a_stream_is_not_over_before_its_bytes_were_consumed() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.write(near, bytes(5000))
    pair.client.connection.finish(near)
    pair.server.connection.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.server.connection.consumed(far, 5000)
    pair.exchange()
    assert near.id in pair.client.connection.streams
    pair.server.connection.consumed(far, 1)
    pair.exchange()
    assert is_over(pair)


@pytest.mark.parametrize("frame", [Data(1, 1, b"x"), Fin(1, 1), Fin(1, 0)])
def test_more_after_the_end(frame: frames.Frame) -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.finish(near)
    pair.exchange()
    breaks_the_protocol(pair, pair.server, far.channel, frame, "FIN")


def test_writing_after_the_end() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.connection.finish(near)
    with pytest.raises(LocalProtocolError):
        pair.client.connection.write(near, b"x")


# Credit


def test_credit_is_for_what_was_consumed_not_for_what_arrived() -> None:
    pair = Pair(server=Limits(early_window=1000, window=1000))
    near, far = pair.connect()
    pair.client.connection.write(near, bytes(3000))
    pair.exchange()
    assert len(pair.server.received(far)) == 1000
    pair.server.connection.consumed(far, 600)
    pair.exchange()
    assert len(pair.server.received(far)) == 1600


def test_a_reader_that_stops_stops_its_own_writer_only() -> None:
    pair = Pair(server=Limits(window=1000, early_window=1000))
    stalled, _ = pair.connect()
    near, far = pair.connect()
    pair.client.connection.write(stalled, bytes(50_000))
    pair.client.connection.write(near, bytes(50_000))
    for _ in range(100):
        pair.exchange()
        consume_all(pair.server, far)
    assert len(pair.server.received(far)) == 50_000
    assert stalled.sender.buffered == 49_000


def test_a_writer_is_paused_and_told_when_to_go_on() -> None:
    pair = Pair(server=Limits(window=1 << 20))
    near, _ = pair.connect()
    assert not pair.client.connection.write(near, bytes(HIGH_WATER))
    assert pair.client.connection.write(near, b"x")
    assert not pair.client.of(StreamDrained)
    pair.exchange()
    assert pair.client.of(StreamDrained) == [StreamDrained(near)]


def test_credit_overrun() -> None:
    pair = Pair(server=Limits(window=1000, early_window=10))
    _, far = pair.request()
    breaks_the_protocol(pair, pair.server, far.channel, Data(far.id, 0, bytes(11)), "credit was 10")


@pytest.mark.parametrize("offset", [0, 4, 6])
def test_a_gap_or_a_repetition_in_the_data(offset: int) -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.write(near, b"12345")
    pair.exchange()
    breaks_the_protocol(pair, pair.server, far.channel, Data(far.id, offset, b"x"), "expected 5")


def test_credit_for_what_was_never_sent() -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair, pair.client, near.channel, Credit(near.id, 1, 1000), "sent were 0")


def test_opened_with_less_than_the_early_window_takes_nothing_back() -> None:
    pair = Pair(server=Limits(early_window=1000))
    near = pair.client.connection.open(TARGET)
    pair.client.take()
    pair.client.hear(near.channel, Opened(near.id, 10))
    pair.client.connection.write(near, bytes(1000))
    assert [type(frame) for frame in decoded(pair.client.take())] == [Data]
    assert near.sender.buffered == 0


def test_the_application_consumes_more_than_it_got() -> None:
    pair = Pair()
    _, far = pair.connect()
    with pytest.raises(LocalProtocolError):
        pair.server.connection.consumed(far, 1)


# Reset


@pytest.mark.parametrize("client", [True, False])
def test_reset_while_data_is_queued(client: bool) -> None:
    pair = Pair()
    near, far = pair.connect()
    side, stream, other = (pair.client, near, far) if client else (pair.server, far, near)
    side.peer.connection.write(other, bytes(100_000))
    pair.exchange()
    side.connection.consumed(stream, 100_000)  # a credit waits as well
    side.connection.write(stream, bytes(100_000))
    side.connection.reset(stream, ResetCode.CONNECTION_RESET)
    assert decoded(side.take()) == [Reset(near.id, ResetCode.CONNECTION_RESET)]
    side.peer.hear(near.channel, Reset(near.id, ResetCode.CONNECTION_RESET))
    [closed] = side.peer.of(StreamClosed)
    assert closed.stream is other
    assert isinstance(closed.error, StreamReset)
    assert not side.of(StreamClosed)
    assert is_over(pair)


def test_reset_crossing_reset() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.reset(near, ResetCode.CANCELLED)
    pair.server.connection.reset(far, ResetCode.CANCELLED)
    pair.exchange()
    assert not pair.client.of(StreamClosed)
    assert not pair.server.of(StreamClosed)
    assert is_over(pair)


def test_reset_crossing_data_end_and_credit() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.server.connection.write(far, bytes(100_000))
    pair.exchange()
    pair.client.connection.consumed(near, 100_000)
    pair.client.connection.write(near, b"late")
    pair.client.connection.finish(near)
    late = pair.client.take()
    assert {type(frame) for frame in decoded(late)} == {Credit, Data, Fin}
    pair.server.connection.reset(far, ResetCode.CONNECTION_RESET)
    for channel, message in late:
        pair.server.receive(channel, message)
    pair.exchange()
    assert not pair.server.received(far)
    assert isinstance(pair.client.of(StreamClosed)[0].error, StreamReset)
    assert is_over(pair)


@pytest.mark.parametrize(
    "late", [Data(1, 0, b"x"), Fin(1, 0), Credit(1, 5, 5), Reset(1, 1), Opened(1, 5), Refused(1, 1, "")]
)
@pytest.mark.parametrize("client", [True, False])
def test_a_late_frame_for_a_stream_that_is_over(client: bool, late: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.connection.reset(near, ResetCode.CANCELLED)
    pair.exchange()
    side = pair.client if client else pair.server
    side.events.clear()
    side.hear(near.channel, late)
    assert not side.events
    assert is_over(pair)


def test_nothing_late_reaches_the_next_stream_of_the_channel() -> None:
    pair = Pair(channels=2)
    near, far = pair.connect()
    pair.server.connection.write(far, b"of the first stream")
    late = pair.server.take()
    pair.client.connection.reset(near, ResetCode.CANCELLED)
    second = pair.client.connection.open(TARGET)
    for channel, message in late:
        pair.client.receive(channel, message)
    pair.exchange()
    pair.server.connection.accept(pair.server.of(StreamRequested)[-1].stream)
    pair.exchange()
    assert second.channel == near.channel
    assert second.state is StreamState.OPEN
    assert not pair.client.received(second)


def test_a_frame_for_a_stream_that_was_never_opened() -> None:
    pair = Pair()
    breaks_the_protocol(pair, pair.client, 1, Opened(1, 0), "never opened")


def test_a_frame_on_the_channel_of_another_stream() -> None:
    pair = Pair()
    near, far = pair.connect()
    breaks_the_protocol(pair, pair.server, far.channel + 1, Data(near.id, 0, b"x"), "on channel")


def test_calls_for_a_stream_that_is_over_change_nothing() -> None:
    pair = Pair()
    near, _ = pair.connect()
    connection = pair.client.connection
    connection.reset(near, ResetCode.CANCELLED)
    pair.exchange()
    connection.reset(near, ResetCode.CANCELLED)
    connection.finish(near)
    connection.ignore(near)
    connection.consumed(near, 1000)
    assert not pair.client.take()
    with pytest.raises(LocalProtocolError):
        connection.write(near, b"x")


# A reader that reads no more


def test_ignored_data_is_not_delivered_and_not_credited() -> None:
    pair = Pair(client=Limits(window=1000))
    near, far = pair.connect()
    pair.client.connection.ignore(near)
    pair.server.connection.write(far, bytes(5000))
    pair.exchange()
    assert not pair.client.received(near)
    assert far.sender.buffered == 4000


def test_ignored_until_the_peer_took_everything_then_reset() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.connection.write(near, b"last words")
    pair.client.connection.finish(near)
    pair.client.connection.ignore(near)
    pair.server.connection.write(far, b"nobody reads this")
    pair.exchange()
    assert pair.server.received(far) == b"last words"
    assert near.state is StreamState.OPEN
    consume_all(pair.server, far)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    [closed] = pair.server.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.CANCELLED
    assert is_over(pair)


@pytest.mark.parametrize("before", [True, False])
def test_ignored_by_one_side_and_ended_by_the_other_is_an_end_in_order(before: bool) -> None:
    """The peer's end may come before the application loses interest, or after."""
    pair = Pair()
    near, far = pair.connect()
    if not before:
        pair.client.connection.ignore(near)
    pair.server.connection.write(far, b"unread")
    pair.server.connection.finish(far)
    pair.exchange()
    if before:
        pair.client.connection.ignore(near)
    pair.client.connection.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_bytes_consumed_after_all_by_a_reader_that_gave_up() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.server.connection.write(far, b"on its way to the application")
    pair.server.connection.finish(far)
    pair.exchange()
    pair.client.connection.ignore(near)
    pair.client.connection.consumed(near, 5)
    assert decoded(pair.client.take()) == [Credit(near.id, 30, 30 + near.receiver.window.size)]


def test_overrun_of_an_ignored_stream() -> None:
    pair = Pair(server=Limits(window=10, early_window=10))
    _, far = pair.connect()
    pair.server.connection.ignore(far)
    breaks_the_protocol(pair, pair.server, far.channel, Data(far.id, 0, bytes(11)), "credit was 10")


# What is sent


def test_the_budget_is_kept_to_one_frame() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.connection.write(near, bytes(50_000))
    sent = pair.client.take(budget=5000, size=1000)
    assert 5000 <= sum(len(message) for _, message in sent) < 5000 + 1000 + frames.DATA_HEADER
    assert not pair.client.take(budget=0)
    assert pair.client.connection.wants_to_send


def test_a_stream_keeps_to_its_channel() -> None:
    pair = Pair()
    pair.connect()
    near, far = pair.connect()
    pair.client.connection.write(near, b"x")
    pair.client.connection.finish(near)
    assert {channel for channel, _ in pair.client.take()} == {near.channel}
    pair.server.connection.reset(far, ResetCode.CANCELLED)
    assert pair.server.take() == [(near.channel, frames.encode(Reset(near.id, ResetCode.CANCELLED)))]


def test_nobody_is_told_goaway_twice_for_one_mistake() -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError):
        pair.server.receive(1, b"\xff")
    pair.server.receive(1, b"\xff")
    assert [type(frame) for frame in decoded(pair.server.take())] == [GoAway]
