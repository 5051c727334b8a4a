"""Packets on their way: what an acknowledgement confirms, and what it shows to be lost."""

from __future__ import annotations

import math

import pytest

from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery.flight import Flight
from toxproxy.recovery.packet import Acknowledgement
from toxproxy.recovery.roundtrip import RoundTrip
from toxproxy.recovery.sent import Sent


def _ack(largest: int, *runs: tuple[int, int]) -> Acknowledgement:
    return Acknowledgement(0, largest & 0xFFFF_FFFF, 0, 0.0, list(runs) or [(1, 0)], 0)


def _flight(count: int, every: float = 0.001) -> Flight:
    """Packets 1 to `count`, one each `every` so many seconds, from 0."""
    flight = Flight()
    for number in range(1, count + 1):
        flight.add(Sent(number, (number - 1) * every, 100, number))
    return flight


def _trip(seconds: float = 0.04) -> RoundTrip:
    trip = RoundTrip()
    trip.add(seconds, 0.0)
    return trip


def _numbers(packets: list[Sent]) -> list[int]:
    return [packet.number for packet in packets]


def test_packets_are_confirmed_once() -> None:
    flight = _flight(10)
    acked, newest = flight.acknowledge(_ack(5, (2, 1), (2, 0)), 0.1)
    assert sorted(_numbers(acked)) == [1, 2, 4, 5]
    assert newest is not None
    assert newest.number == 5
    assert flight.bytes == 600
    acked, newest = flight.acknowledge(_ack(5, (5, 0)), 0.1)
    assert _numbers(acked) == [3]
    assert newest is None


def test_a_run_of_none_makes_a_gap_longer() -> None:
    acked, _ = _flight(9).acknowledge(_ack(9, (1, 3), (0, 2), (1, 0)), 0.1)
    assert sorted(_numbers(acked)) == [3, 9]


def test_an_acknowledgement_of_the_future_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError):
        _flight(3).acknowledge(_ack(4), 0.0)
    with pytest.raises(RemoteProtocolError):
        _flight(3).acknowledge(_ack(0), 0.0)


def test_runs_below_the_first_number_are_ignored() -> None:
    acked, _ = _flight(3).acknowledge(_ack(3, (65535, 65535), (65535, 65535)), 0.0)
    assert sorted(_numbers(acked)) == [1, 2, 3]


def test_what_left_long_before_an_acknowledged_packet_is_lost() -> None:
    flight, trip = _flight(20), _trip()  # 40 ms: 5 ms of reordering
    flight.acknowledge(_ack(20, (10, 2), (8, 0)), 0.06)
    assert _numbers(flight.find_lost(0.0601, trip)) == [9, 10]
    assert flight.bytes == 0


def test_what_left_just_before_is_lost_when_it_is_overdue() -> None:
    flight, trip = _flight(3), _trip()
    flight.acknowledge(_ack(3), 0.042)
    assert not flight.find_lost(0.042, trip)
    due = flight.overdue_at(trip, 0.042)
    assert due == pytest.approx(0.045)
    assert _numbers(flight.find_lost(due + 1e-9, trip)) == [1]
    assert _numbers(flight.find_lost(0.05, trip)) == [2]
    assert flight.overdue_at(trip, 0.05) == math.inf


def test_the_tail_is_not_lost_by_time_alone() -> None:
    flight, trip = _flight(5), _trip()
    flight.acknowledge(_ack(2, (2, 0)), 0.042)
    assert not flight.find_lost(100.0, trip)
    assert flight.overdue_at(trip, 100.0) == math.inf


def test_a_packet_that_was_only_late_raises_the_tolerance() -> None:
    flight, trip = _flight(40), _trip()
    flight.acknowledge(_ack(20, (19, 1)), 0.06)
    assert _numbers(flight.find_lost(0.06, trip)) == [1]
    assert flight.floor == 1  # its acknowledgement would still tell something
    assert not flight.acknowledge(_ack(21, (21, 0)), 0.061)[0][1:]
    assert flight.floor == 22
    assert flight.reordering(trip, 0.07) >= 0.02
    assert flight.reordering(trip, 20.0) == 0.005


def test_what_was_given_up_is_forgotten() -> None:
    flight, trip = _flight(20), _trip()
    flight.acknowledge(_ack(20, (19, 0)), 0.06)
    flight.find_lost(0.06, trip)
    assert flight.floor == 1
    flight.find_lost(3.0, trip)
    assert flight.floor == 21


def test_the_last_ones_never_left() -> None:
    flight = _flight(5)
    assert [flight.withdraw(number) is not None for number in (5, 4, 4, 9, 0)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert flight.bytes == 300
    flight.add(Sent(6, 1.0, 100, None))
    assert _numbers(flight.lose_before(6, 1.0)) == [1, 2, 3]
    assert flight.bytes == 100


def test_packets_that_never_left_cost_no_memory() -> None:
    """A run of acknowledged numbers for each would, where a carrier refuses every second packet."""
    flight = _flight(1000)
    for number in range(2, 1000, 2):
        flight.withdraw(number)
        flight.acknowledge(_ack(number + 1, (1, 0)), 0.06)
    assert len(flight._known) == 1
