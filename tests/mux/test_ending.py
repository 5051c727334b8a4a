"""How a stream ends: in order, by a reset, or because its reader ignores it."""

from __future__ import annotations

import pytest

from toxproxy.errors import LocalProtocolError, ResetCode, StreamReset
from toxproxy.mux import frames
from toxproxy.mux.events import StreamClosed
from toxproxy.mux.frames import Credit, Data, Fin, Opened, Refused, Reset
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import StreamState

from .pair import Pair, breaks_the_protocol, consume_all, decoded, is_over


def test_the_client_ends_first() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.server.mux.write(far, b"an answer")
    pair.server.mux.finish(far)
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
    pair.server.mux.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.client.mux.write(near, b"still talking")
    pair.client.mux.finish(near)
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
    pair.client.mux.finish(near)
    pair.server.mux.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    consume_all(pair.server, far)
    pair.exchange()
    assert is_over(pair)


def test_ended_before_the_answer() -> None:
    pair = Pair()
    near, far = pair.request()
    pair.client.mux.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.exchange()
    assert near.state is StreamState.OPENING
    pair.server.mux.accept(far)
    pair.server.mux.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.exchange()
    assert is_over(pair)


def test_a_stream_is_open_until_its_bytes_are_consumed() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.write(near, bytes(5000))
    pair.client.mux.finish(near)
    pair.server.mux.finish(far)
    pair.exchange()
    consume_all(pair.client, near)
    pair.server.consume(far, 5000)
    pair.exchange()
    assert near.id in pair.client.mux.streams
    pair.server.consume(far, 1)
    pair.exchange()
    assert is_over(pair)


@pytest.mark.parametrize("frame", [Data(1, 0, b"x"), Data(1, 1, b"x"), Fin(1, 1)])
def test_more_after_the_end(frame: frames.Frame) -> None:
    pair = Pair()
    near, _far = pair.connect()
    pair.client.mux.finish(near)
    pair.exchange()
    breaks_the_protocol(pair.server, frame, "FIN")


def test_writing_after_the_end() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.finish(near)
    with pytest.raises(LocalProtocolError):
        pair.client.mux.write(near, b"x")


@pytest.mark.parametrize("client", [True, False])
def test_reset_while_data_is_queued(client: bool) -> None:
    pair = Pair()
    near, far = pair.connect()
    side, stream, other = (pair.client, near, far) if client else (pair.server, far, near)
    side.peer.mux.write(other, bytes(100_000))
    pair.exchange()
    side.consume(stream, 100_000)  # a CREDIT waits as well
    side.mux.write(stream, bytes(100_000))
    side.mux.reset(stream, ResetCode.CONNECTION_RESET)
    assert decoded(side.take()) == [Reset(near.id, ResetCode.CONNECTION_RESET)]
    side.peer.hear(Reset(near.id, ResetCode.CONNECTION_RESET))
    [closed] = side.peer.of(StreamClosed)
    assert closed.stream is other
    assert isinstance(closed.error, StreamReset)
    assert side.of(StreamClosed) == [StreamClosed(stream, None)]
    assert is_over(pair)


def test_reset_crossing_reset() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    pair.server.mux.reset(far, ResetCode.CANCELLED)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_reset_crossing_data_end_and_credit() -> None:
    pair = Pair(client=Limits(window=256 * 1024))
    near, far = pair.connect()
    pair.server.mux.write(far, bytes(100_000))
    pair.exchange()
    pair.client.consume(near, 100_000)
    pair.client.mux.write(near, b"late")
    pair.client.mux.finish(near)
    late = pair.client.take()
    assert {type(frame) for frame in decoded(late)} == {Credit, Data, Fin}
    pair.server.mux.reset(far, ResetCode.CONNECTION_RESET)
    for packet in late:
        pair.server.receive(packet.frames)
    pair.exchange()
    assert not pair.server.received(far)
    assert isinstance(pair.client.of(StreamClosed)[0].error, StreamReset)
    assert is_over(pair)


@pytest.mark.parametrize(
    "late", [Data(1, 0, b"x"), Fin(1, 0), Credit(1, 5, 5), Reset(1, 1), Opened(1, 5), Refused(1, 1, "")]
)
@pytest.mark.parametrize("client", [True, False])
def test_a_late_frame_for_a_closed_stream(client: bool, late: frames.Frame) -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    pair.exchange()
    side = pair.client if client else pair.server
    side.events.clear()
    side.hear(late)
    assert not side.events
    assert is_over(pair)


def test_a_frame_for_a_stream_that_was_never_opened() -> None:
    pair = Pair()
    breaks_the_protocol(pair.client, Opened(1, 0), "never opened")


def test_calls_for_a_closed_stream_change_nothing() -> None:
    pair = Pair()
    near, _ = pair.connect()
    mux = pair.client.mux
    mux.reset(near, ResetCode.CANCELLED)
    pair.exchange()
    mux.reset(near, ResetCode.CANCELLED)
    mux.finish(near)
    mux.ignore(near)
    pair.client.consume(near, 1000)
    assert not pair.client.take()
    with pytest.raises(LocalProtocolError):
        mux.write(near, b"x")


def test_ignored_data_is_not_delivered() -> None:
    pair = Pair(client=Limits(window=1000))
    near, far = pair.connect()
    pair.client.mux.ignore(near)
    pair.server.mux.write(far, bytes(5000))
    pair.exchange()
    assert not pair.client.received(near)
    assert not far.sender.buffered


def test_two_sides_that_ignore_each_other_with_more_queued_than_a_window_both_end() -> None:
    pair = Pair(client=Limits(window=1000), server=Limits(window=1000))
    near, far = pair.connect()
    for side, stream in ((pair.client, near), (pair.server, far)):
        side.mux.write(stream, bytes(5000))
        side.mux.finish(stream)
        side.mux.ignore(stream)
    pair.exchange()
    assert [closed.stream for closed in pair.client.of(StreamClosed)] == [near]
    assert [closed.stream for closed in pair.server.of(StreamClosed)] == [far]
    assert is_over(pair)


def test_an_ignored_stream_is_reset_when_the_peer_has_everything() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.client.mux.write(near, b"last words")
    pair.client.mux.finish(near)
    pair.client.mux.ignore(near)
    pair.server.mux.write(far, b"nobody reads this")
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
def test_a_stream_ignored_by_one_side_and_finished_by_the_other_ends_in_order(before: bool) -> None:
    """The peer's FIN may come before or after the application ignores the stream."""
    pair = Pair()
    near, far = pair.connect()
    if not before:
        pair.client.mux.ignore(near)
    pair.server.mux.write(far, b"unread")
    pair.server.mux.finish(far)
    pair.exchange()
    if before:
        pair.client.mux.ignore(near)
    pair.client.mux.finish(near)
    pair.exchange()
    consume_all(pair.server, far)
    pair.exchange()
    assert pair.client.of(StreamClosed) == [StreamClosed(near, None)]
    assert pair.server.of(StreamClosed) == [StreamClosed(far, None)]
    assert is_over(pair)


def test_what_came_of_an_ignored_stream_counts_as_consumed() -> None:
    pair = Pair()
    near, far = pair.connect()
    pair.server.mux.write(far, b"on its way to the application")
    pair.server.mux.finish(far)
    pair.exchange()
    pair.client.mux.ignore(near)
    assert pair.client.mux.read(near, 5) is None
    assert decoded(pair.client.take()) == [Credit(near.id, 30, 30 + near.receiver.size)]


def test_overrun_of_an_ignored_stream() -> None:
    pair = Pair(server=Limits(window=10, early_window=10))
    _, far = pair.connect()
    pair.server.mux.ignore(far)
    breaks_the_protocol(pair.server, Data(far.id, 0, bytes(11)), "credit was 10")
