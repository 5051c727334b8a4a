"""Two recoveries and a path that loses, doubles and reorders, in virtual time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.recovery.ends import End, Pair
from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery import packet
from toxproxy.recovery.recovery import Recovery
from toxproxy.recovery.sent import PACKET_SIZE, Report, Sent


def _lossy(pair: Pair, share: float) -> None:
    pair.drops = lambda end, packet: pair.random.random() < share


def test_everything_arrives_once_on_a_good_path() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(3000)
    pair.far.source.offer(2000)
    pair.run(5)
    assert pair.far.source.got == dict.fromkeys(range(3000), 1)
    assert pair.near.source.got == dict.fromkeys(range(2000), 1)
    assert pair.near.source.confirmed == set(range(3000))
    assert not pair.near.recovery.flight.bytes
    assert pair.near.recovery.due == math.inf


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.4),
    doubles=st.floats(0, 0.3),
    lateness=st.floats(0, 0.2),
    delay=st.floats(0.0005, 0.4),
    size=st.sampled_from((20, 100, 600, 1200)),
)
def test_everything_arrives(
    seed: int, loss: float, doubles: float, lateness: float, delay: float, size: int
) -> None:
    pair = Pair(seed, delay=delay, size=size)
    pair.lateness, pair.doubles = lateness, doubles
    _lossy(pair, loss)
    pair.connect()
    pair.near.source.offer(400)
    pair.far.source.offer(300)
    for _ in range(60):
        pair.run(5)
        if len(pair.near.source.confirmed) == 400 and len(pair.far.source.confirmed) == 300:
            break
    assert set(pair.far.source.got) == set(range(400))
    assert set(pair.near.source.got) == set(range(300))
    pair.run(10)
    assert pair.near.recovery.flight.bytes == pair.far.recovery.flight.bytes == 0


def test_a_lost_tail_is_sent_again_soon() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(1)
    pair.run(1)
    pair.drops = lambda end, packet: end is pair.near
    pair.near.source.offer(1, 1)
    pair.run(0.01)
    pair.drops = lambda end, packet: False
    pair.run(0.2)
    assert pair.far.source.got[1] == 1


def test_losses_that_last_for_many_packets_are_soon_over() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(20_000)
    pair.run(0.2)
    left = iter(range(40))  # beyond what is in flight
    pair.drops = lambda end, packet: end is pair.near
    pair.run(0.2)
    pair.drops = lambda end, packet: end is pair.near and next(left, None) is not None
    before = len(pair.far.source.got)
    pair.run(6)
    assert len(pair.far.source.got) > before


def test_a_cut_is_over_within_a_second() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(20_000)
    pair.run(0.2)
    pair.drops = lambda end, packet: True
    pair.run(1)
    before, sent = len(pair.far.source.got), pair.near.sent
    pair.run(7)
    assert pair.near.sent - sent < 80  # a silent path gets probes only
    pair.drops = lambda end, packet: False
    pair.run(1.1)
    assert len(pair.far.source.got) > before
    pair.run(5)
    assert set(pair.far.source.got) == set(range(20_000))


def test_an_acknowledgement_that_comes_after_seconds_is_no_measure_of_the_round_trip() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(20_000)
    pair.run(0.2)
    pair.drops = lambda end, packet: end is pair.far
    pair.run(0.05)
    pair.drops = lambda end, packet: True
    pair.run(7)
    pair.drops = lambda end, packet: end is pair.near
    pair.far.recovery.refused(1, pair.now)  # the last acknowledgement could not leave
    pair.run(0.1)
    assert pair.near.recovery.trip.smoothed < 0.1
    pair.drops = lambda end, packet: False
    before = len(pair.far.source.got)
    pair.run(1.1)
    assert len(pair.far.source.got) > before


def test_nothing_is_lost_with_a_link() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(3000)
    pair.far.source.offer(3000)
    for _ in range(6):
        pair.run(0.12)
        pair.connect()
        assert not pair.near.recovery.met
    pair.run(5)
    for end in (pair.near, pair.far):
        assert set(end.source.got) == set(range(3000))


def test_what_arrived_on_the_last_link_is_not_sent_again() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(10)
    pair.drops = lambda end, packet: end is pair.far  # no acknowledgement comes back
    pair.run(0.06)
    assert len(pair.far.source.got) == 10
    pair.drops = lambda end, packet: False
    pair.connect()
    pair.run(1)
    assert pair.far.source.got == dict.fromkeys(range(10), 1)
    assert pair.near.source.confirmed == set(range(10))


def test_the_client_introduces_itself_until_it_is_answered() -> None:
    pair = Pair()
    seen: list[tuple[End, tuple[int, int] | None]] = []

    def watch(end: End, data: bytes) -> bool:
        seen.append((end, packet.introduction(data)))
        return False

    pair.drops = watch
    pair.near.source.offer(1)
    pair.connect()
    pair.run(1)
    pair.near.recovery.introduction = packet.ids(1, 2)
    pair.near.source.offer(1, 1)
    pair.run(1)
    near = [ids for end, ids in seen if end is pair.near]
    assert near[0] == (1, 0)
    assert near[-1] is None
    seen.clear()
    pair.connect()
    pair.run(1)
    near = [ids for end, ids in seen if end is pair.near]
    assert near[0] == (1, 2)
    assert all(ids is None for end, ids in seen if end is pair.far)


def test_a_packet_that_is_refused_comes_again() -> None:
    pair = Pair()
    pair.connect()
    refused: list[int] = []

    def refuses(number: int) -> bool:
        if number == 7 and len(refused) < 3:
            refused.append(number)
            return True
        return False

    pair.far.source.refuses = refuses
    pair.near.source.offer(20)
    pair.run(3)
    assert set(pair.far.source.got) == set(range(20))
    assert len(refused) == 3


def test_what_the_carrier_refuses_goes_again() -> None:
    pair = Pair()
    pair.connect()
    recovery = pair.near.recovery
    pair.near.source.offer(30)
    first = recovery.next_packet(0.0)
    assert first is not None
    recovery.refused(1, 0.0)
    assert recovery.next_packet(0.001) is None
    pair.run(1)
    assert set(pair.far.source.got) == set(range(30))


def test_probes_that_the_carrier_refuses_do_not_follow_one_another_at_once() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(1)
    pair.run(1)
    pair.connect()
    recovery, now = pair.near.recovery, pair.now
    for _ in range(3):
        assert recovery.next_packet(now) is not None
        recovery.refused(1, now)
        assert recovery.due > now
        now = recovery.due


def test_probes_that_were_lost_with_their_link_have_nothing_that_is_sent_again() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(10)
    pair.run(1)
    pair.drops = lambda end, packet: True
    pair.connect()
    pair.run(2)
    pair.drops = lambda end, packet: False
    pair.near.source.offer(10, 10)
    pair.connect()
    pair.run(1)
    assert pair.far.source.got == dict.fromkeys(range(20), 1)


def test_an_acknowledgement_that_the_carrier_refuses_goes_again() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(1)
    data = pair.near.recovery.next_packet(0.0)
    assert data is not None
    recovery = pair.far.recovery
    recovery.receive(data, 0.0)
    assert recovery.next_packet(recovery.due) is not None
    recovery.refused(1, 0.01)
    assert recovery.next_packet(0.011) is None
    again = recovery.next_packet(recovery.due)
    assert again is not None
    assert again[0] & packet.ACK


def test_a_side_that_only_acknowledges_waits_longer_for_the_carrier_only_while_that_takes_nothing() -> None:
    pair = Pair()
    pair.connect()
    recovery, pauses = pair.far.recovery, []
    for at in range(6):
        pair.near.source.offer(1, at)
        data = pair.near.recovery.next_packet(at + 0.5)
        assert data is not None
        recovery.receive(data, at + 0.5)
        assert recovery.next_packet(recovery.due) is not None
        if at != 3:  # then it is taken
            recovery.refused(1, at + 0.6)
            pauses.append(round(recovery.due - at - 0.6, 3))
    assert pauses == [0.005, 0.01, 0.02, 0.005, 0.01]


def test_the_peers_clock_is_followed_through_hours_of_silence() -> None:
    pair = Pair()
    pair.connect()
    reports: list[Report] = []
    feedback = pair.near.recovery.controller.feedback

    def listen(
        now: float, acked: list[Sent], lost: list[Sent], report: Report | None, in_flight: int
    ) -> None:
        if report is not None:
            reports.append(report)
        feedback(now, acked, lost, report, in_flight)

    pair.near.recovery.controller.feedback = listen  # type: ignore[method-assign]
    for number, silence in enumerate((1, 2000, 2500, 4000, 20_000)):
        pair.near.source.offer(1, number)
        pair.run(silence)
    assert len(reports) == 5
    assert max(each.one_way for each in reports) - min(each.one_way for each in reports) < 0.1


def test_a_peer_that_acknowledges_nothing_for_an_hour_costs_no_more_memory() -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(5)
    pair.drops = lambda end, packet: end is pair.far
    pair.run(600)
    before = pair.near.recovery.flight.bytes
    pair.run(3000)
    assert pair.near.recovery.flight.bytes <= before + 1000


def test_a_run_of_a_hundred_thousand_packets() -> None:
    pair = Pair(delay=0.001, size=1300)
    pair.connect()
    pair.near.source.offer(100_000)
    while len(pair.near.source.confirmed) < 100_000 and pair.now < 600:
        pair.run(1)
    assert len(pair.far.source.got) == 100_000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"\x08\x00\x00\x01",
        b"\x02\x00\x00\x01",
        b"\x01\x00\x00\x01" + bytes(15),
        b"\x02\x00\x00\x01" + bytes(12) + b"\x00",
        b"\x02\x00\x00\x01" + bytes(12) + b"\x41" + bytes(4 * 65),
        b"\x02\x00\x00\x01\x00\x00\x00\x00\x00\x09" + bytes(6) + b"\x01\x00\x01\x00\x00",
    ],
)
def test_a_malformed_packet_is_an_error(data: bytes) -> None:
    pair = Pair()
    pair.connect()
    with pytest.raises(RemoteProtocolError):
        pair.far.recovery.receive(data, 0.0)


@given(st.lists(st.binary(max_size=PACKET_SIZE), max_size=20), st.booleans())
def test_arbitrary_packets_are_taken_or_refused_in_words(packets: list[bytes], client: bool) -> None:
    pair = Pair()
    pair.connect()
    pair.near.source.offer(10)
    pair.run(0.01)
    end: Recovery = (pair.near if client else pair.far).recovery
    for data in packets:
        try:
            end.receive(data, pair.now)
        except RemoteProtocolError:
            return
