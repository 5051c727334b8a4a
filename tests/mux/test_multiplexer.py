"""The life of a session: HELLO, PING, GOAWAY, and peers that break the protocol."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import (
    GoAwayCode,
    LocalProtocolError,
    Refusal,
    RemoteProtocolError,
    ResetCode,
    StreamRefused,
    StreamReset,
)
from toxproxy.mux import (
    Established,
    GoAwayReceived,
    Limits,
    Multiplexer,
    PongReceived,
    StreamClosed,
    StreamRequested,
    frames,
)
from toxproxy.mux.frames import Credit, Data, Fin, GoAway, Hello, Open, Opened, Ping, Pong, Refused, Reset
from toxproxy.mux.scheduler import MAX_WAITING

from .pair import TARGET, Pair, Side, decoded

HELLO = Hello(1, 1, 7, 0, 65536, 100)
OF_SESSION: list[frames.Frame] = [HELLO, Ping(1), Pong(1), GoAway(0, "")]
OF_STREAMS: list[frames.Frame] = [
    Open(1, 1, 0, 80, "host"),
    Opened(1, 0),
    Refused(1, 1, ""),
    Data(1, 0, b"x"),
    Fin(1, 0),
    Reset(1, 1),
    Credit(1, 0, 0),
]


def is_fatal(side: Side, channel: int, frame: frames.Frame, match: str) -> None:
    """Check that `frame` is the peer's error: it closes the session, and one GOAWAY is left to send."""
    with pytest.raises(RemoteProtocolError, match=match):
        side.hear(frame)
    assert side.mux.closed
    assert not side.mux.streams
    last = decoded(side.take())[-1]
    assert isinstance(last, GoAway)
    assert last.text


# HELLO


def test_the_client_sends_first_and_the_server_waits_for_its_second_frame() -> None:
    pair = Pair(established=False)
    assert not pair.server.take()
    assert pair.client.flush() == 1
    assert not pair.server.mux.established
    assert pair.server.flush() == 1
    assert pair.client.of(Established) == [Established(session=2, version=1)]
    pair.client.mux.open(TARGET)
    pair.client.flush()
    assert pair.server.of(Established) == [Established(session=1, version=1)]
    assert [type(event) for event in pair.server.events] == [Established, StreamRequested]


def test_hello_has_the_limits() -> None:
    pair = Pair(established=False, client=Limits(early_window=1, window=2, streams=3))
    assert decoded(pair.client.take()) == [Hello(1, 1, 1, frames.LZ4, 1, 3)]


@pytest.mark.parametrize("client", [True, False])
def test_no_stream_before_the_session_is_established(client: bool) -> None:
    pair = Pair(established=False)
    side = pair.client if client else pair.server
    with pytest.raises(LocalProtocolError, match="established"):
        side.mux.open(TARGET)
    if not client:
        pair.client.flush()  # the client's HELLO has arrived, the server's has not
        with pytest.raises(LocalProtocolError, match="established"):
            side.mux.open(TARGET)


@pytest.mark.parametrize("client", [True, False])
def test_no_ping_without_a_session(client: bool) -> None:
    pair = Pair(established=False)
    side = pair.client if client else pair.server
    with pytest.raises(LocalProtocolError, match="ping"):
        side.mux.ping(1)


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("frame", OF_STREAMS + OF_SESSION[1:3], ids=lambda frame: type(frame).__name__)
def test_a_frame_before_hello(client: bool, frame: frames.Frame) -> None:
    side = Side(Multiplexer(client=client, session=1))
    is_fatal(side, 0 if frame in OF_SESSION else 1, frame, "before HELLO")


@pytest.mark.parametrize("client", [True, False])
def test_a_second_hello(client: bool) -> None:
    pair = Pair()
    is_fatal(pair.client if client else pair.server, 0, HELLO, "second HELLO")


def test_a_second_hello_as_the_frame_that_would_establish_the_session() -> None:
    pair = Pair(established=False)
    pair.client.flush()
    is_fatal(pair.server, 0, HELLO, "second HELLO")
    assert not pair.server.of(Established)


@pytest.mark.parametrize(("oldest", "newest"), [(1, 1), (0, 1), (1, 9), (0, 255)])
def test_ranges_of_versions_that_overlap(oldest: int, newest: int) -> None:
    pair = Pair(established=False)
    pair.client.hear(HELLO._replace(oldest=oldest, newest=newest))
    assert pair.client.of(Established) == [Established(7, 1)]


@pytest.mark.parametrize(("oldest", "newest"), [(2, 3), (0, 0), (255, 255), (5, 1)])
def test_ranges_of_versions_that_do_not_overlap_are_named_to_both_sides(oldest: int, newest: int) -> None:
    pair = Pair(established=False)
    hello = HELLO._replace(oldest=oldest, newest=newest)
    said = (
        f"the server speaks protocol versions 1 to 1, the client {oldest} to {newest}; "
        "upgrade the older of the two"
    )
    with pytest.raises(RemoteProtocolError) as caught:
        pair.server.hear(hello)
    assert str(caught.value) == said
    pair.server.flush()
    assert pair.client.of(GoAwayReceived) == [GoAwayReceived(GoAwayCode.VERSION, said)]
    assert pair.client.mux.closed


def test_unknown_features_are_ignored() -> None:
    pair = Pair(established=False)
    pair.client.hear(HELLO._replace(features=0xFFFF_FFFF))
    assert pair.client.mux.established


def test_as_many_streams_as_the_peer_allows_and_one_more() -> None:
    pair = Pair(server=Limits(streams=2))
    for _ in range(2):
        pair.client.mux.open(TARGET)
    with pytest.raises(StreamRefused, match="allows 2") as caught:
        pair.client.mux.open(TARGET)
    assert caught.value.code is Refusal.TOO_MANY_STREAMS


# Channels


@pytest.mark.parametrize("frame", OF_SESSION, ids=lambda frame: type(frame).__name__)
def test_a_session_frame_on_a_streams_channel(frame: frames.Frame) -> None:
    is_fatal(Pair().server, 3, frame, "on channel 3")


@pytest.mark.parametrize("frame", OF_STREAMS, ids=lambda frame: type(frame).__name__)
def test_a_streams_frame_on_the_sessions_channel(frame: frames.Frame) -> None:
    is_fatal(Pair().server, 0, frame, "on channel 0")


# PING


@pytest.mark.parametrize("client", [True, False])
def test_a_ping_is_answered_with_its_value(client: bool) -> None:
    pair = Pair()
    side = pair.client if client else pair.server
    side.mux.ping(0xFFFF_FFFF_FFFF_FFFF)
    pair.exchange()
    assert side.of(PongReceived) == [PongReceived(0xFFFF_FFFF_FFFF_FFFF)]


def test_a_ping_is_answered_before_queued_data() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, bytes(10_000))
    pair.client.hear(Ping(5))
    assert decoded(pair.client.take())[0] == Pong(5)


def test_a_flood_of_pings_from_a_peer_that_reads_no_answer() -> None:
    pair = Pair()
    for value in range(MAX_WAITING):
        pair.server.hear(Ping(value))
    with pytest.raises(RemoteProtocolError, match="does not take them"):
        pair.server.hear(Ping(0))
    [last] = decoded(pair.server.take())  # GOAWAY overtakes all of them
    assert isinstance(last, GoAway)


def test_a_flood_of_requests_from_a_peer_that_reads_no_answer() -> None:
    pair = Pair(server=Limits(streams=1))
    pair.server.hear(Open(1, 1, 0, 80, "host"))
    for number in range(MAX_WAITING):
        pair.server.hear(Open(3 + 2 * number, 1, 0, 80, "host"))
    with pytest.raises(RemoteProtocolError, match="does not take them"):
        pair.server.hear(Open(3, 1, 0, 80, "host"))
    assert isinstance(decoded(pair.server.take())[-1], GoAway)


def test_a_session_with_many_queued_answers_can_still_be_closed() -> None:
    pair = Pair()
    for value in range(MAX_WAITING):
        pair.server.hear(Ping(value))
    pair.server.mux.close(GoAwayCode.STOPPING)
    assert decoded(pair.server.take()) == [GoAway(0, "")]


# GOAWAY


@pytest.mark.parametrize("client", [True, False])
def test_goaway_closes_every_stream_on_both_sides(client: bool) -> None:
    pair = Pair()
    pair.request()
    pair.connect()
    side = pair.client if client else pair.server
    side.mux.close(GoAwayCode.STOPPING, "see you")
    pair.exchange()
    for each in (pair.client, pair.server):
        assert each.mux.closed
        assert not each.mux.streams
        closed = each.of(StreamClosed)
        assert len(closed) == 2
        for _, error in closed:
            assert isinstance(error, StreamReset)
            assert error.code is ResetCode.GOING_AWAY
    assert side.peer.events[-1] == GoAwayReceived(GoAwayCode.STOPPING, "see you")


def test_goaway_overtakes_everything_in_the_queue() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, bytes(10_000))
    pair.client.mux.close(GoAwayCode.STOPPING)
    assert decoded(pair.client.take()) == [GoAway(0, "")]


def test_goaway_before_hello() -> None:
    pair = Pair(established=False)
    pair.server.mux.close(GoAwayCode.STOPPING, "not today")
    pair.server.flush()
    assert pair.client.events == [GoAwayReceived(GoAwayCode.STOPPING, "not today")]


def test_a_second_close_sends_nothing() -> None:
    pair = Pair()
    pair.client.mux.close(GoAwayCode.STOPPING)
    pair.client.mux.close(GoAwayCode.PROTOCOL_ERROR)
    assert decoded(pair.client.take()) == [GoAway(0, "")]


def test_goaway_is_sent_once_for_an_error() -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError):
        pair.server.receive(1, b"\xff")
    pair.server.receive(1, b"\xff")
    assert [type(frame) for frame in decoded(pair.server.take())] == [GoAway]


def test_a_lost_link_closes_every_stream_and_sends_nothing() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, b"data")
    pair.client.mux.lost()
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.LINK_LOST
    assert not pair.client.take()


def test_the_link_is_lost_after_the_end() -> None:
    pair = Pair()
    pair.connect()
    pair.client.mux.close(GoAwayCode.STOPPING)
    pair.client.mux.lost()
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.GOING_AWAY


@pytest.mark.parametrize("frame", OF_SESSION + OF_STREAMS, ids=lambda frame: type(frame).__name__)
def test_frames_after_the_end_are_ignored(frame: frames.Frame) -> None:
    pair = Pair()
    pair.connect()
    pair.server.mux.close(GoAwayCode.STOPPING)
    pair.server.take()
    pair.server.events.clear()
    pair.server.hear(0 if frame in OF_SESSION else 1, frame)
    assert not pair.server.events
    assert not pair.server.take()


def test_no_stream_and_no_ping_after_the_end() -> None:
    pair = Pair()
    pair.client.mux.close(GoAwayCode.STOPPING)
    with pytest.raises(LocalProtocolError):
        pair.client.mux.open(TARGET)
    with pytest.raises(LocalProtocolError):
        pair.client.mux.ping(1)


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40))),
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.one_of(
                st.builds(
                    Open, st.integers(0, 5), st.integers(0, 2), st.integers(0, 9), st.just(80), st.just("h")
                ),
                st.builds(Opened, st.integers(0, 5), st.integers(0, 9)),
                st.builds(Refused, st.integers(0, 5), st.integers(0, 255), st.just("")),
                st.builds(Data, st.integers(0, 5), st.integers(0, 9), st.binary(min_size=1, max_size=3)),
                st.builds(Fin, st.integers(0, 5), st.integers(0, 9)),
                st.builds(Reset, st.integers(0, 5), st.integers(0, 255)),
                st.builds(Credit, st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)),
            ).map(frames.encode),
        )
    ),
)
def test_arbitrary_frames_are_valid_or_the_peers_error(
    client: bool, noise: list[tuple[int, bytes]], plausible: list[tuple[int, bytes]]
) -> None:
    pair = Pair()
    pair.connect()
    side = pair.client if client else pair.server
    for channel, message in [*plausible, *noise]:
        with suppress(RemoteProtocolError):
            side.receive(channel, message)
    if side.mux.closed:
        assert not side.mux.streams
    for _, message in side.take():
        frames.decode(message)
