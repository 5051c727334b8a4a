"""The receive window: flow control of one direction at its receiver."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux.limits import Allotment, Limits
from toxproxy.mux.receiver import Receiver

from .pair import a_receiver


def test_one_byte_over_the_credit() -> None:
    receiver = a_receiver(100)
    for end in (60, 100):
        assert receiver.take(0, end, bytes(end))
    with pytest.raises(RemoteProtocolError, match="up to 101, credit was 100"):
        receiver.take(100, 101, b"x")


def test_credit_is_due_at_a_quarter_of_the_window() -> None:
    receiver = a_receiver(100)
    receiver.received = 100
    receiver.consumed = 24
    assert not receiver.due
    receiver.consumed = 25
    assert receiver.due
    assert receiver.grant() == 125
    assert not receiver.due


def test_receiving_alone_gives_no_credit() -> None:
    receiver = a_receiver(100)
    receiver.received = 100
    assert not receiver.due
    assert receiver.grant() == 100


def test_a_wider_window_takes_effect_with_the_next_credit() -> None:
    receiver = a_receiver(100)
    receiver.size = 400
    assert receiver.limit == 100
    assert receiver.grant() == 400


def test_a_limit_never_falls() -> None:
    receiver = a_receiver(100)
    receiver.size = 10
    assert receiver.grant() == 100


LIMITS = Limits(least_window=10, window=100, most_window=800, session_window=6400)


def test_a_new_stream_gets_a_smaller_window_when_memory_is_short_but_never_none() -> None:
    memory = Allotment(LIMITS)
    sizes = [Receiver(memory.first(), memory).size for _ in range(400)]
    assert sizes[0] == 100
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 10
    assert sum(sizes) <= 6400 + 400 * 10


def test_windows_grow_up_to_the_limit_of_a_stream() -> None:
    memory = Allotment(LIMITS)
    receiver = Receiver(100, memory)
    sizes = []
    for _ in range(5):
        receiver.resize(memory.wider(receiver.size))
        sizes.append(receiver.size)
    assert sizes == [400, 800, 800, 800, 800]


@pytest.mark.parametrize(("end", "seen"), [(99, False), (100, True), (125, True), (126, False), (150, True)])
def test_a_window_is_used_up_by_bytes_that_end_at_a_limit_that_was_given(end: int, seen: bool) -> None:
    receiver = a_receiver(100)
    receiver.take(0, 60, bytes(60))
    for _ in range(2):
        receiver.read(25)
        receiver.credit(1)
    receiver.take(90, end, bytes(end - 90))
    assert receiver.used_up is seen


def test_a_limit_from_before_a_window_grew_does_not_count() -> None:
    receiver = a_receiver(100)
    receiver.take(0, 60, bytes(60))
    receiver.read(60)
    receiver.credit(1)
    receiver.resize(Allotment(LIMITS).wider(100))
    receiver.take(60, 160, bytes(100))
    assert not receiver.used_up
    assert receiver.grant() == 460
    receiver.take(160, 460, bytes(300))
    assert receiver.used_up


def test_windows_grow_only_while_memory_is_left() -> None:
    memory = Allotment(LIMITS)
    receivers = [Receiver(memory.first(), memory) for _ in range(20)]
    for _ in range(10):
        for receiver in receivers:
            receiver.resize(memory.wider(receiver.size))
    assert sum(receiver.size for receiver in receivers) <= 6400
    receivers.pop(0).drop()
    before = sum(receiver.size for receiver in receivers)
    for receiver in receivers:
        receiver.resize(memory.wider(receiver.size))
    assert sum(receiver.size for receiver in receivers) > before


@given(st.integers(1, 1000), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300))))
def test_a_sender_within_its_credit_never_stalls(size: int, moves: list[tuple[int, int]]) -> None:
    receiver = a_receiver(size)
    granted = receiver.limit
    for sent, taken in moves:
        receiver.received = min(receiver.received + sent, granted)
        receiver.consumed += min(taken, receiver.received - receiver.consumed)
        if receiver.due:
            before, granted = granted, receiver.grant()
            assert granted >= before
        assert receiver.received <= granted <= receiver.consumed + size
    receiver.consumed = receiver.received
    if receiver.due:
        granted = receiver.grant()
    assert granted > receiver.received, "all was consumed, but there is no credit"
