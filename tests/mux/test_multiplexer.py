"""The life of a session: HELLO, PING, its end, and peers that break the protocol."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import (
    CloseCode,
    Refusal,
    RemoteProtocolError,
    ResetCode,
    StreamRefused,
    StreamReset,
)
from toxproxy.mux import frames
from toxproxy.mux.events import Established, PongReceived, StreamClosed, StreamRequested
from toxproxy.mux.frames import (
    Credit,
    Data,
    Fin,
    Hello,
    Open,
    Opened,
    Packed,
    Ping,
    Pong,
    Refused,
    Reset,
)
from toxproxy.mux.limits import Limits
from toxproxy.mux.multiplexer import Multiplexer
from toxproxy.mux.scheduler import MAX_WAITING

from .pair import TARGET, Pair, Side, breaks_the_protocol, decoded

HELLO = Hello(2, 2, 7, 0, 65536, 100)
AFTER_HELLO: list[frames.Frame] = [
    Ping(1),
    Pong(1),
    Open(1, 1, 0, 80, "host"),
    Opened(1, 0),
    Refused(1, 1, ""),
    Data(1, 0, b"x"),
    Fin(1, 0),
    Reset(1, 1),
    Credit(1, 0, 0),
]


# HELLO


def test_the_client_sends_first_and_each_side_is_established_by_the_others_hello() -> None:
    pair = Pair(established=False)
    assert not pair.server.take()
    assert pair.client.flush() == 1
    assert pair.server.of(Established) == [Established(session=1)]
    assert not pair.client.mux.established
    assert pair.server.flush() == 1
    assert pair.client.of(Established) == [Established(session=2)]
    pair.client.mux.open(TARGET)
    pair.client.flush()
    assert [type(event) for event in pair.server.events] == [Established, StreamRequested]


def test_hello_has_the_limits() -> None:
    pair = Pair(established=False, client=Limits(early_window=1, window=2, streams=3))
    features = frames.LZ4 | frames.DATAGRAMS | frames.LISTENS
    assert decoded(pair.client.take()) == [Hello(2, 2, 1, features, 1, 3)]


@pytest.mark.parametrize("client", [True, False])
def test_no_stream_before_the_session_is_established(client: bool) -> None:
    pair = Pair(established=False)
    side = pair.client if client else pair.server
    with pytest.raises(StreamRefused, match="not connected"):
        side.mux.open(TARGET)


def test_a_stream_that_the_server_opens_before_its_hello_arrives_is_not_lost() -> None:
    pair = Pair(established=False)
    pair.client.flush()
    sent = pair.server.take()
    pair.server.mux.open(TARGET)
    assert not pair.client.receive(pair.server.take()[0].frames)
    pair.server.deliver(sent)
    assert pair.client.mux.established


@pytest.mark.parametrize("client", [True, False])
@pytest.mark.parametrize("frame", AFTER_HELLO, ids=lambda frame: type(frame).__name__)
def test_a_frame_that_overtakes_hello_is_not_acknowledged(client: bool, frame: frames.Frame) -> None:
    side = Side(Multiplexer(client=client, session=1))
    assert not side.hear(frame)
    assert not side.events
    assert side.hear(HELLO)
    assert side.mux.established


def test_frames_that_overtook_hello_are_handled_when_they_come_again() -> None:
    pair = Pair(established=False)
    hello = pair.client.take()
    assert not pair.server.hear(Open(1, 1, 0, 80, "host"))
    pair.client.deliver(hello)
    assert pair.server.hear(Open(1, 1, 0, 80, "host"))
    assert [type(event) for event in pair.server.events] == [Established, StreamRequested]


@pytest.mark.parametrize("client", [True, False])
def test_another_hello(client: bool) -> None:
    pair = Pair()
    breaks_the_protocol(pair.client if client else pair.server, HELLO, "second HELLO")


@pytest.mark.parametrize("client", [True, False])
def test_the_same_hello_again(client: bool) -> None:
    side = Side(Multiplexer(client=client, session=1))
    side.hear(HELLO)
    events = list(side.events)
    side.hear(HELLO)
    assert side.events == events


def test_a_lost_hello_is_sent_again() -> None:
    pair = Pair(established=False)
    for side in (pair.client, pair.server):
        for _ in range(3):
            sent = side.take()
            assert [type(frame) for frame in decoded(sent)] == [Hello]
            side.lose(sent)
        side.flush()
    assert pair.client.mux.established


@pytest.mark.parametrize(("oldest", "newest"), [(2, 2), (0, 2), (2, 9), (0, 255)])
def test_ranges_of_versions_that_overlap(oldest: int, newest: int) -> None:
    pair = Pair(established=False)
    pair.client.hear(HELLO._replace(oldest=oldest, newest=newest))
    assert pair.client.of(Established) == [Established(7)]


@pytest.mark.parametrize(("oldest", "newest"), [(3, 4), (0, 0), (1, 1), (255, 255), (5, 1)])
def test_ranges_of_versions_that_do_not_overlap_are_named(oldest: int, newest: int) -> None:
    pair = Pair(established=False)
    hello = HELLO._replace(oldest=oldest, newest=newest)
    said = (
        f"the server speaks protocol versions 2 to 2, the client {oldest} to {newest}; "
        "upgrade the older of the two"
    )
    with pytest.raises(RemoteProtocolError) as caught:
        pair.server.hear(hello)
    assert str(caught.value) == said
    assert pair.server.mux.closed
    assert caught.value.code is CloseCode.VERSION


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


# PING


@pytest.mark.parametrize("client", [True, False])
def test_no_ping_without_a_session(client: bool) -> None:
    pair = Pair(established=False)
    with pytest.raises(StreamRefused, match="not connected"):
        (pair.client if client else pair.server).mux.ping(1)


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


@pytest.mark.parametrize("client", [True, False])
def test_a_lost_ping_and_a_lost_pong_are_sent_again(client: bool) -> None:
    pair = Pair()
    side = pair.client if client else pair.server
    side.mux.ping(5)
    for sender in (side, side.peer):
        sender.lose(sender.take())
        sender.flush()
    assert side.of(PongReceived) == [PongReceived(5)]


def test_a_flood_of_pings_from_a_peer_that_reads_no_answer() -> None:
    pair = Pair()
    for value in range(MAX_WAITING):
        pair.server.hear(Ping(value))
    breaks_the_protocol(pair.server, Ping(0), "does not take them")


# Requests


def test_a_flood_of_requests_from_a_peer_that_reads_no_answer() -> None:
    pair = Pair(server=Limits(streams=1))
    pair.server.hear(Open(1, 1, 0, 80, "host"))
    for number in range(MAX_WAITING):
        pair.server.hear(Open(3 + 2 * number, 1, 0, 80, "host"))
    breaks_the_protocol(pair.server, Open(3, 1, 0, 80, "host"), "does not take them")


def test_answers_that_were_lost_count_again() -> None:
    pair = Pair(server=Limits(streams=0))
    for number in range(MAX_WAITING):
        pair.server.hear(Open(1 + 2 * number, 1, 0, 80, "host"))
        if number % 100 == 99:
            pair.server.lose(pair.server.take(most=1))
    breaks_the_protocol(pair.server, Open(1, 1, 0, 80, "host"), "does not take them")


# The end


@pytest.mark.parametrize("client", [True, False])
def test_closing_ends_every_stream_and_leaves_nothing_to_send(client: bool) -> None:
    pair = Pair()
    pair.request()
    near, far = pair.connect()
    side, stream = (pair.client, near) if client else (pair.server, far)
    side.mux.write(stream, bytes(10_000))
    side.mux.open(TARGET)
    side.mux.end()
    assert side.mux.closed
    assert not side.mux.streams
    assert not side.mux.scheduler.wants_to_send
    assert side.mux.scheduler.fill([], 1000, 0.0) is None
    closed = side.of(StreamClosed)
    assert len(closed) == 3
    for _, error in closed:
        assert isinstance(error, StreamReset)
        assert error.code is ResetCode.GOING_AWAY


def test_packets_lost_or_delivered_after_the_end_change_nothing() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, bytes(5000))
    pair.client.mux.open(TARGET)
    sent = pair.client.take()
    pair.client.mux.end()
    pair.client.lose(sent[:2])
    pair.client.deliver(sent[2:])
    assert not pair.client.mux.scheduler.wants_to_send


def test_what_follows_an_error_is_not_handled() -> None:
    pair = Pair()
    with pytest.raises(RemoteProtocolError):
        pair.server.receive(b"\xff" + frames.encode(Open(1, 1, 0, 80, "host")))
    pair.server.hear(Open(1, 1, 0, 80, "host"))
    assert not pair.server.events


def test_a_lost_link_closes_every_stream_and_sends_nothing() -> None:
    pair = Pair()
    near, _ = pair.connect()
    pair.client.mux.write(near, b"data")
    pair.client.mux.end(ResetCode.LINK_LOST)
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.LINK_LOST
    assert not pair.client.take()


def test_the_link_is_lost_after_the_end() -> None:
    pair = Pair()
    pair.connect()
    pair.client.mux.end()
    pair.client.mux.end(ResetCode.LINK_LOST)
    [closed] = pair.client.of(StreamClosed)
    assert isinstance(closed.error, StreamReset)
    assert closed.error.code is ResetCode.GOING_AWAY


@pytest.mark.parametrize("frame", [HELLO, *AFTER_HELLO], ids=lambda frame: type(frame).__name__)
def test_frames_after_the_end_are_ignored(frame: frames.Frame) -> None:
    pair = Pair()
    pair.connect()
    pair.server.mux.end()
    events = list(pair.server.of(object))
    assert pair.server.hear(frame)
    assert pair.server.events == events
    assert not pair.server.take()


def test_no_stream_and_no_ping_after_the_end() -> None:
    pair = Pair()
    pair.client.mux.end()
    with pytest.raises(StreamRefused):
        pair.client.mux.open(TARGET)
    with pytest.raises(StreamRefused):
        pair.client.mux.ping(1)


plausible = st.one_of(
    st.builds(Open, st.integers(0, 5), st.integers(0, 2), st.integers(0, 9), st.just(80), st.just("h")),
    st.builds(Opened, st.integers(0, 5), st.integers(0, 9)),
    st.builds(Refused, st.integers(0, 5), st.integers(0, 255), st.just("")),
    st.builds(Data, st.integers(0, 5), st.integers(0, 9), st.binary(min_size=1, max_size=3)),
    st.builds(Packed, st.integers(0, 5), st.integers(0, 9), st.just(3), st.just(b"\x30abc")),
    st.builds(Fin, st.integers(0, 5), st.integers(0, 9)),
    st.builds(Reset, st.integers(0, 5), st.integers(0, 255)),
    st.builds(Credit, st.integers(0, 5), st.integers(0, 9), st.integers(0, 9)),
)


@given(
    st.booleans(),
    st.lists(st.lists(plausible.map(frames.encode), max_size=4).map(b"".join) | st.binary(max_size=40)),
)
def test_arbitrary_frames_are_valid_or_the_peers_error(client: bool, packets: list[bytes]) -> None:
    pair = Pair()
    pair.connect()
    side = pair.client if client else pair.server
    for packet in packets:
        with suppress(RemoteProtocolError):
            side.receive(packet)
    if side.mux.closed:
        assert not side.mux.streams
        assert not side.mux.scheduler.wants_to_send
    decoded(side.take())


def test_what_streams_carried_is_counted_while_they_live_and_after() -> None:
    pair = Pair()
    first, far = pair.connect()
    assert pair.client.mux.carried == pair.server.mux.carried == (0, 0)
    pair.client.mux.write(first, b"a" * 1000)
    pair.server.mux.write(far, b"b" * 10)
    pair.exchange()
    assert (pair.client.mux.carried, pair.server.mux.carried) == ((1000, 10), (10, 1000))
    pair.client.mux.reset(first, ResetCode.CANCELLED)
    second, _ = pair.connect()
    pair.client.mux.write(second, b"c" * 5)
    pair.exchange()
    assert (pair.client.mux.carried, pair.server.mux.carried) == ((1005, 10), (10, 1005))
    pair.client.mux.end()
    assert pair.client.mux.carried == (1005, 10)
