"""How long an address waits after wrong passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.inbound.guesses import (
    FIRST_PAUSE,
    FORGOTTEN_AFTER,
    LONGEST_PAUSE,
    MOST_ADDRESSES,
    Guesses,
    source,
)


def test_each_wrong_password_doubles_the_pause_up_to_a_limit():
    guesses, now, pauses = Guesses(), 1000.0, []
    assert guesses.pause("192.0.2.1", now) == 0
    for _ in range(7):
        guesses.failed("192.0.2.1", now)
        pauses.append(guesses.pause("192.0.2.1", now))
        now += pauses[-1]
        assert guesses.pause("192.0.2.1", now) == 0
    assert pauses == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0, 3.0]


def test_another_address_does_not_wait():
    guesses = Guesses()
    for _ in range(100):
        guesses.failed("192.0.2.1", 0.0)
    assert guesses.pause("192.0.2.1", 0.0) == LONGEST_PAUSE
    assert guesses.pause("192.0.2.2", 0.0) == 0


def test_guesses_are_forgotten_after_a_while():
    guesses = Guesses()
    assert [guesses.failed("192.0.2.1", at) for at in (0.0, 1.0, 2.0)] == [1, 2, 3]
    assert guesses.failed("192.0.2.1", 2.0 + FORGOTTEN_AFTER) == 1
    assert len(guesses) == 1


def test_addresses_beyond_the_limit_share_one_pause():
    guesses = Guesses()
    for number in range(MOST_ADDRESSES + 1000):
        guesses.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0.0)
    assert len(guesses) == MOST_ADDRESSES + 1
    assert guesses.pause("10.0.0.0", 0.0) == FIRST_PAUSE
    assert guesses.pause("192.0.2.1", 0.0) == LONGEST_PAUSE
    guesses.failed("10.0.0.0", FORGOTTEN_AFTER)
    assert guesses.pause("192.0.2.1", FORGOTTEN_AFTER) == 0


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("127.0.0.1", "loopback"),
        ("127.9.9.9", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("an unknown address", "an unknown address"),
    ],
)
def test_the_addresses_of_one_owner_count_as_one(host, name):
    assert source(host) == name


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["10.0.0.1", "10.0.0.2", "::1"]), st.integers(0, 4000).map(lambda n: n / 4)
        ),
        max_size=30,
    )
)
def test_no_pause_is_longer_than_the_limit(steps):
    guesses, now = Guesses(), 0.0
    for host, seconds in steps:
        now += seconds
        assert 0 <= guesses.pause(host, now) <= LONGEST_PAUSE
        guesses.failed(host, now)
        assert FIRST_PAUSE <= guesses.pause(host, now) <= LONGEST_PAUSE
