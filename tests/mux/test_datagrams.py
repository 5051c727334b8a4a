"""Flows of datagrams: what goes, what is dropped, what is put together."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.mux.pair import ROOM, TARGET, Pair, Side, breaks_the_protocol, decoded
from toxproxy.address import OpenUdpTarget, Target, UdpTarget
from toxproxy.errors import LocalProtocolError, Refusal, ResetCode, StreamRefused
from toxproxy.mux import frames
from toxproxy.mux.datagrams import LATE, MOST_DATAGRAM
from toxproxy.mux.events import DatagramReceived, StreamClosed, StreamRequested, StreamTurnedAway
from toxproxy.mux.limits import Limits, Pool
from toxproxy.mux.stream import Stream, StreamState

UDP, OPEN_UDP = UdpTarget("10.0.0.1", 53), OpenUdpTarget("10.0.0.1", 53)
QUIC = 1252  # bytes: the longest first datagram of QUIC that implementations send


def a_flow(pair: Pair, target: UdpTarget = UDP) -> tuple[Stream, Stream]:
    near = pair.client.mux.open(target)
    pair.exchange()
    far = pair.server.of(StreamRequested)[-1].stream
    pair.server.mux.accept(far)
    pair.exchange()
    return near, far


def came(side: Side) -> list[bytes]:
    return [event.data for event in side.of(DatagramReceived)]


def send(side: Side, stream: Stream, *datagrams: bytes) -> None:
    for each in datagrams:
        side.mux.send(stream, each, side.now)


def free(side: Side) -> int:
    return side.mux.memory.left


@pytest.mark.parametrize("target", [UDP, OPEN_UDP], ids=str)
def test_datagrams_go_both_ways_and_the_target_is_one_of_udp(target: UdpTarget) -> None:
    pair = Pair()
    near, far = a_flow(pair, target)
    assert pair.server.of(StreamRequested)[-1].target == target
    assert str(target) in ("10.0.0.1:53/udp", "10.0.0.1:53/udp+any")
    assert near.state is far.state is StreamState.OPEN
    send(pair.client, near, b"question", b"")
    send(pair.server, far, b"answer")
    pair.exchange()
    assert came(pair.server) == [b"question", b""]
    assert came(pair.client) == [b"answer"]
    assert near.carried == (8, 6)
    assert pair.client.mux.carried == pair.server.mux.carried[::-1] == (8, 6)


def test_the_first_datagram_goes_with_the_request_in_one_packet() -> None:
    pair = Pair()
    near = pair.client.mux.open(UDP)
    send(pair.client, near, b"q" * 100)
    (packet,) = pair.client.take()
    pair.client.deliver([packet])
    far = pair.server.of(StreamRequested)[-1].stream
    assert came(pair.server) == [b"q" * 100]
    assert far.state is StreamState.REQUESTED


@pytest.mark.parametrize("beside", [0, 15, 77])
def test_a_datagram_of_quic_is_whole_in_one_packet_beside_an_acknowledgement(beside: int) -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    send(pair.client, near, bytes(QUIC))
    (packet,) = pair.client.take(room=ROOM - beside)
    assert decoded([packet]) == [frames.Datagram(near.id, bytes(QUIC))]


def test_what_does_not_fit_waits_for_the_next_packet_and_is_split_only_then() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    tcp, _ = pair.connect()
    send(pair.client, near, bytes(QUIC))
    pair.client.mux.write(tcp, b"x" * 3000)
    first, second = pair.client.take(2, room=1200)
    assert not any(isinstance(frame, frames.Datagram | frames.Part) for frame in decoded([first]))
    assert isinstance(decoded([second])[0], frames.Part)
    send(pair.client, near, bytes(QUIC))
    pair.client.take(1, room=1200)
    (whole,) = pair.client.take(1)
    assert frames.Datagram(near.id, bytes(QUIC)) in decoded([whole])


def test_a_lost_datagram_is_not_sent_again_and_its_packet_has_no_contents() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    send(pair.client, near, b"lost", bytes(5000))
    packets = pair.client.take()
    assert all(packet.contents == [] for packet in packets)
    pair.client.lose(packets)
    assert not pair.client.mux.scheduler.wants_to_send
    pair.exchange()
    assert came(pair.server) == []


@settings(max_examples=50)
@given(st.lists(st.integers(0, 70_00), max_size=20), st.randoms(), st.integers(200, ROOM))
def test_datagrams_of_any_length_arrive_whole_in_whatever_order_packets_come(sizes, dice, room) -> None:  # type: ignore[no-untyped-def]
    pair = Pair()
    near, _ = a_flow(pair)
    before = free(pair.server), free(pair.client)
    sent = [bytes([at]) * size for at, size in enumerate(sizes)]
    send(pair.client, near, *sent)
    packets = []
    while pair.client.mux.scheduler.wants_to_send:  # a packet without room for a whole one may have nothing
        packets += pair.client.take(room=room)
    dice.shuffle(packets)
    pair.client.deliver(packets)
    assert sorted(came(pair.server)) == sorted(sent)
    assert (free(pair.server), free(pair.client)) == before


def test_the_longest_datagram_arrives_and_a_longer_one_is_the_callers_mistake() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    longest = bytes(range(256)) * 256
    with pytest.raises(LocalProtocolError, match="65536 bytes, expected 65535"):
        send(pair.client, near, longest)
    send(pair.client, near, longest[:MOST_DATAGRAM])
    pair.exchange()
    assert came(pair.server) == [longest[:MOST_DATAGRAM]]


def test_without_one_part_the_datagram_is_dropped_as_a_whole_and_its_memory_comes_back() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    before = free(pair.server)
    for _ in range(200):
        send(pair.client, near, bytes(5000))
        pair.client.deliver(pair.client.take()[1:])
    assert came(pair.server) == []
    assert before - free(pair.server) <= 1 << 20
    assert len(pair.server.mux.assembly._partial) <= 64
    pair.server.mux.end()
    assert not pair.server.mux.memory.taken


def test_parts_that_overlap_make_no_datagram() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    for at in (0, 2, 4):
        pair.server.hear(frames.Part(near.id, 1, 10, at, b"abcd"))
    assert came(pair.server) == []
    assert not pair.server.mux.assembly._partial
    pair.server.hear(frames.Part(near.id, 1, 8, 4, b"efgh"), frames.Part(near.id, 1, 8, 0, b"abcd"))
    assert came(pair.server) == [b"abcdefgh"]


def test_a_datagram_in_thousands_of_parts_is_dropped() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    before = free(pair.server)
    for at in range(3000):
        pair.server.hear(frames.Part(near.id, 2, 4000, at, b"a"))
        assert all(len(parts) <= 1024 for parts in pair.server.mux.assembly._partial.values())
    assert before - free(pair.server) <= 1024 * 129


def test_the_longest_datagram_arrives_in_what_packets_of_another_flow_leave() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    other, _ = a_flow(pair)
    send(pair.client, near, bytes(MOST_DATAGRAM))
    packets = 0
    while not any(len(data) == MOST_DATAGRAM for data in came(pair.server)) and packets < 2000:
        send(pair.client, other, *[bytes(1230)] * 2)
        pair.client.deliver(pair.client.take(1))
        packets += 1
    assert 256 < packets < 2000


def test_late_datagrams_are_dropped_and_counted() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    send(pair.client, near, b"late")
    pair.client.now = LATE + 0.01
    send(pair.client, near, b"in time")
    pair.exchange()
    assert came(pair.server) == [b"in time"]
    datagrams = pair.client.mux.scheduler.datagrams
    assert (datagrams.sent, datagrams.dropped) == (1, 1)
    assert pair.server.mux.assembly.received == 1


def test_where_too_many_wait_the_oldest_of_the_flow_are_dropped() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    other, _ = a_flow(pair)
    send(pair.client, other, b"other")
    send(pair.client, near, *(number.to_bytes(2) + bytes(998) for number in range(5000)))
    assert near.flow is not None
    assert near.flow.held <= 1 << 20
    pair.exchange()
    numbers = [int.from_bytes(data[:2]) for data in came(pair.server) if len(data) > 5]
    assert numbers == list(range(5000 - len(numbers), 5000))
    assert 400 < len(numbers) < 1000
    assert b"other" in came(pair.server)
    datagrams = pair.client.mux.scheduler.datagrams
    assert datagrams.sent + datagrams.dropped == 5001


def test_a_million_bytes_in_each_of_many_flows_take_two_million_at_most() -> None:
    pair = Pair()
    flows = [pair.client.mux.open(UDP) for _ in range(1000)]
    before = free(pair.client)
    for flow in flows:
        send(pair.client, flow, *itertools.repeat(bytes(1200), 30))
    assert before - free(pair.client) <= 2 << 20
    pair.client.mux.end()
    assert not pair.client.mux.memory.taken


def test_where_memory_is_short_less_waits() -> None:
    pair = Pair(client=Limits(pool=Pool(1 << 20)))
    near, _ = a_flow(pair)
    send(pair.client, near, *itertools.repeat(bytes(1200), 500))
    assert near.flow is not None
    assert near.flow.held <= 64 * 1024


def test_flows_take_turns_so_a_flood_does_not_delay_a_question() -> None:
    pair = Pair()
    flood, _ = a_flow(pair)
    question, _ = a_flow(pair)
    send(pair.client, flood, *itertools.repeat(bytes(1200), 300))
    send(pair.client, question, b"?")
    pair.client.deliver(pair.client.take(2))
    assert b"?" in came(pair.server)


def test_a_flood_of_datagrams_leaves_half_of_the_packets_to_streams_and_a_download_all_to_datagrams() -> None:
    pair = Pair()
    flow, _ = a_flow(pair)
    tcp, _ = pair.connect()
    send(pair.client, flow, *itertools.repeat(bytes(1200), 800))
    pair.client.mux.write(tcp, random.Random(1).randbytes(400_000))
    packets = pair.client.take(400)
    carried = [[len(f.payload) for f in decoded([each]) if isinstance(f, frames.Data)] for each in packets]
    of_streams = [sum(each) for each in carried[20:]]
    assert 0.45 < sum(of_streams) / sum(len(packet.frames) for packet in packets[20:]) < 0.6
    pauses = [
        len(list(run)) for full, run in itertools.groupby(each > 1000 for each in of_streams) if not full
    ]
    assert max(pauses) <= 2
    while pair.client.mux.scheduler.datagrams:
        pair.client.take(1)
    send(pair.client, flow, b"call")
    assert b"call" in [each[1] for each in decoded(pair.client.take(1))]


def test_the_end_of_a_flow_drops_what_waits_and_what_comes_then_is_ignored() -> None:
    pair = Pair()
    near, far = a_flow(pair)
    before = free(pair.client)
    send(pair.client, near, b"one")
    sent = pair.client.take()
    send(pair.client, near, b"two")
    pair.client.mux.reset(near, ResetCode.CANCELLED)
    pair.exchange()
    assert free(pair.client) == before
    assert pair.server.of(StreamClosed)[-1].stream is far
    pair.client.deliver(sent)
    assert came(pair.server) == []
    send(pair.server, far, b"late")
    assert not pair.server.mux.scheduler.wants_to_send
    assert not pair.client.mux.flows
    assert not pair.server.mux.flows


def test_a_datagram_before_its_request_is_dropped_and_acknowledged() -> None:
    pair = Pair()
    assert pair.server.hear(frames.Datagram(1, b"early"))
    assert came(pair.server) == []


def test_a_datagram_from_the_answering_side_says_that_it_opened_the_flow() -> None:
    pair = Pair()
    near = pair.client.mux.open(UDP)
    pair.exchange()
    pair.client.hear(frames.Datagram(near.id, b"answer"))
    assert near.state is StreamState.OPEN
    assert came(pair.client) == [b"answer"]


def test_a_server_that_knows_no_datagrams_is_not_asked_and_the_client_is_told_in_words() -> None:
    pair = Pair(established=False)
    pair.client.hear(frames.Hello(2, 2, 2, frames.LZ4, 1000, 10))
    with pytest.raises(StreamRefused, match="carries no UDP: upgrade it") as refused:
        pair.client.mux.open(UDP)
    assert refused.value.code is Refusal.UNSUPPORTED
    assert not pair.client.mux.streams


def test_more_flows_than_the_limit_are_refused_on_both_sides_and_streams_are_not() -> None:
    pair = Pair(server=Limits(flows=2))
    for _ in range(3):
        pair.client.mux.open(UDP)
    pair.exchange()
    assert pair.server.mux.flows == 2
    assert pair.server.of(StreamTurnedAway)[-1].target == UDP
    assert pair.client.of(StreamClosed)[-1].error.code is Refusal.TOO_MANY_STREAMS  # type: ignore[union-attr]
    pair.connect()
    few = Pair(client=Limits(flows=1))
    few.client.mux.open(UDP)
    with pytest.raises(StreamRefused, match="1 flows of datagrams"):
        few.client.mux.open(UDP)


@pytest.mark.parametrize(
    "frame",
    [frames.Data(1, 0, b"x"), frames.Fin(1, 0), frames.Credit(1, 0, 0), frames.Packed(1, 0, 1, b"x")],
)
def test_frames_of_streams_for_a_flow_break_the_protocol(frame: frames.Frame) -> None:
    pair = Pair()
    a_flow(pair)
    breaks_the_protocol(pair.server, frame, "flow of datagrams|credit was 0")


def test_a_datagram_for_a_stream_of_bytes_breaks_the_protocol() -> None:
    pair = Pair()
    near, _ = pair.connect()
    breaks_the_protocol(pair.server, frames.Datagram(near.id, b"x"), "no flow of datagrams")


def test_a_part_beyond_its_datagram_breaks_the_protocol() -> None:
    pair = Pair()
    near, _ = a_flow(pair)
    breaks_the_protocol(pair.server, frames.Part(near.id, 0, 10, 8, b"abc"), "beyond the 10 bytes")


def test_an_unknown_kind_is_refused_and_the_session_goes_on() -> None:
    pair = Pair()
    pair.server.hear(frames.Open(1, 5, 0, 53, "h"))
    (answer,) = decoded(pair.server.take())
    assert isinstance(answer, frames.Refused)
    assert answer.code == Refusal.UNSUPPORTED
    assert pair.client.mux.open(TARGET)
    assert type(TARGET) is Target
