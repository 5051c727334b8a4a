"""What came: no packet twice, and acknowledgements in time."""

from __future__ import annotations

import math
import random

from toxproxy.recovery import packet
from toxproxy.recovery.received import Received


def _take(received: Received, number: int, now: float = 0.0, *, urgent: bool = False) -> None:
    assert received.is_new(number)
    received.add(number, now, 0.04, urgent=urgent)


def test_one_packet_waits_for_a_share_of_the_round_trip() -> None:
    received = Received()
    assert received.due == math.inf
    _take(received, 1, 10.0)
    assert received.due == 10.0 + 0.04 / 8
    _take(received, 2, 10.001)
    assert received.due == 10.0 + 0.04 / 8
    received.acknowledgement(0, 10.002)
    assert received.due == math.inf


def test_many_packets_do_not_wait() -> None:
    received = Received()
    for number in range(1, 16):
        _take(received, number, 1.0)
    assert received.due > 1.0
    _take(received, 16, 1.0)
    assert received.due == 1.0


def test_a_gap_and_its_end_are_told_at_once() -> None:
    received = Received()
    _take(received, 1)
    received.acknowledgement(0, 0.0)
    _take(received, 3, 2.0)
    assert received.due == 2.0
    received.acknowledgement(0, 2.0)
    _take(received, 2, 3.0)
    assert received.due == 3.0


def test_a_probe_is_answered_at_once() -> None:
    received = Received()
    _take(received, 1, 4.0, urgent=True)
    assert received.due == 4.0


def test_a_repeated_packet_is_not_new() -> None:
    received = Received()
    for number in (1, 2, 5):
        _take(received, number)
    assert [number for number in range(1, 8) if not received.is_new(number)] == [1, 2, 5]
    received.raise_floor(4)
    assert [number for number in range(1, 8) if not received.is_new(number)] == [1, 2, 3, 5]
    received.raise_floor(2)  # an old packet that came late
    assert not received.is_new(3)


def test_a_floor_above_everything_keeps_the_largest_number() -> None:
    received = Received()
    _take(received, 1)
    received.raise_floor(1000)
    assert not received.is_new(999)
    ack = packet.parse_acknowledgement(received.acknowledgement(0, 0.0), 0)
    assert ack.largest == 1
    _take(received, 1000)


def test_gaps_are_bounded() -> None:
    received = Received()
    numbers = list(range(2, 20_000, 2))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        if received.is_new(number):
            received.add(number, 0.0, 0.04, urgent=False)
    assert len(received._numbers) <= 1025
    assert not received.is_new(3)  # given up
    assert len(received.acknowledgement(0, 0.0)) <= 13 + 4 * 32
