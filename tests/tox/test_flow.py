"""When a node leaves its UDP socket alone for a millisecond."""

from __future__ import annotations

from toxproxy.tox.flow import FLOW, MANY, REST, Flow


def test_packets_that_come_one_by_one_are_read_at_once() -> None:
    flow, now = Flow(), 100.0
    for _ in range(100):
        now += REST / (FLOW - 1)
        assert flow.pause(1, now) is None


def test_the_first_packets_after_a_pause_are_read_at_once_and_then_once_in_a_while() -> None:
    flow, now = Flow(), 100.0
    for _ in range(3):
        now += 1.0
        assert [flow.pause(1, now + at / 10_000) for at in range(FLOW + 2)] == [None] * (FLOW - 1) + [
            REST
        ] * 3


def test_while_packets_flow_each_reading_is_followed_by_a_rest() -> None:
    flow, now = Flow(), 100.0
    for _ in range(10):
        now += 1.5 * REST
        assert flow.pause(9, now) == REST


def test_a_reading_of_nothing_ends_the_rest() -> None:
    flow = Flow()
    assert flow.pause(9, 100.0) == REST
    assert flow.pause(0, 100.002) is None
    assert flow.pause(1, 100.0025) is None


def test_a_node_that_is_behind_does_not_rest() -> None:
    flow = Flow()
    assert flow.pause(MANY, 100.0) == 0
    assert flow.pause(MANY - 1, 100.001) == REST
