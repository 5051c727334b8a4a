"""Packets as bytes: there and back, and cut short."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.errors import RemoteProtocolError
from toxproxy.recovery import packet
from toxproxy.recovery.ranges import Ranges


def _read(ack: bytes) -> set[int]:
    """The numbers that an acknowledgement confirms; they must be below 2**32."""
    parsed = packet.parse_acknowledgement(ack, 0)
    assert parsed.end == len(ack)
    numbers: set[int] = set()
    high = parsed.largest + 1
    for run, gap in parsed.runs:
        numbers |= set(range(high - run, high))
        high -= run + gap
    return numbers


@given(st.sets(st.integers(1, 300), min_size=1))
def test_an_acknowledgement_names_what_came(numbers: set[int]) -> None:
    ranges = Ranges()
    for number in numbers:
        ranges.add(number, number + 1)
    told = _read(packet.acknowledgement(0, 1.0, 1.5, ranges, packet.MOST_RUNS))
    if len(ranges) <= packet.MOST_RUNS:
        assert told == numbers
    else:
        assert told < numbers
        assert max(told) == max(numbers)


@pytest.mark.parametrize("length", [1, 65_534, 65_535, 65_536, 100_000, 300_000])
def test_a_long_run_is_said_in_parts(length: int) -> None:
    ranges = Ranges()
    ranges.add(10, 10 + length)
    ranges.add(1, 5)
    assert _read(packet.acknowledgement(0, 0.0, 0.0, ranges, 32)) == {
        *range(10, 10 + length),
        *range(1, 5),
    }


def test_a_gap_that_is_too_long_ends_the_acknowledgement() -> None:
    ranges = Ranges()
    ranges.add(1, 5)
    ranges.add(100_000, 100_003)
    told = _read(packet.acknowledgement(0, 0.0, 0.0, ranges, 32))
    assert told == set(range(100_000, 100_003))


def test_times_are_in_small_units() -> None:
    ranges = Ranges()
    ranges.add(7, 8)
    parsed = packet.parse_acknowledgement(packet.acknowledgement(0, 5.0, 5.002, ranges, 1), 0)
    assert parsed.received == 5_000_000
    assert parsed.delay == pytest.approx(0.002, abs=16e-6)
    late = packet.parse_acknowledgement(packet.acknowledgement(0, 5.0, 500.0, ranges, 1), 0)
    assert late.delay == pytest.approx(1.04856)


@given(st.integers(0, 2**40), st.integers(-(2**31), 2**31 - 1))
def test_a_number_is_the_nearest_with_its_low_bits(near: int, off: int) -> None:
    number = near + off
    assert packet.expanded(number & 0xFFFF_FFFF, near) == number
    number = near + (off >> 8)
    assert packet.parse_header(packet.header(0x7F, number), near) == (0x7F, number)


@pytest.mark.parametrize("span", [0, 7, 65_535, 65_536, 10**9])
def test_an_acknowledgement_says_how_far_below_its_packet_the_floor_is(span: int) -> None:
    ranges = Ranges()
    ranges.add(7, 8)
    written = packet.acknowledgement(span, 5.0, 5.0, ranges, 1)
    assert packet.parse_acknowledgement(written, 0).span == min(span, 65_535)


@pytest.mark.parametrize("cut", range(13))
def test_an_acknowledgement_that_is_cut_short_is_an_error(cut: int) -> None:
    ranges = Ranges()
    ranges.add(7, 8)
    whole = packet.acknowledgement(0, 5.0, 5.0, ranges, 1)
    with pytest.raises(RemoteProtocolError):
        packet.parse_acknowledgement(whole[:cut], 0)


def test_a_close_has_a_text_without_control_characters() -> None:
    assert packet.closing(packet.close(3, "over\x1b[2J")) == (3, "over\N{REPLACEMENT CHARACTER}[2J")
    assert packet.closing(packet.close(1, "é" * 400)) == (1, "é" * 256)
    assert packet.closing(b"\x80") is None
    assert packet.closing(b"\x80\x01" + b"\xff" * 2000) == (1, "\N{REPLACEMENT CHARACTER}" * 512)


def test_an_introduction_names_two_ids() -> None:
    head = packet.header(packet.INTRODUCTION, 1)
    assert packet.introduction(head + packet.ids(2**64 - 1, 7)) == (2**64 - 1, 7)
    assert packet.introduction(head + packet.ids(1, 7)[:-1]) is None
    assert packet.introduction(packet.header(0, 1) + packet.ids(1, 7)) is None
    assert packet.introduction(packet.close(1, "x" * 100)) is None
    assert packet.introduction(b"") is None
