"""Streams are spread over the channels of the link."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toxproxy.mux.channels import Channels


def test_as_many_streams_as_channels_share_none() -> None:
    channels = Channels(255)
    assert sorted(channels.take() for _ in range(254)) == list(range(1, 255))


def test_more_streams_than_channels_share_them_evenly() -> None:
    channels = Channels(5)
    taken = [channels.take() for _ in range(12)]
    assert {channel: taken.count(channel) for channel in taken} == {1: 3, 2: 3, 3: 3, 4: 3}


def test_a_channel_that_the_peer_uses_is_avoided() -> None:
    channels = Channels(4)
    channels.share(1)
    channels.share(2)
    assert channels.take() == 3
    channels.share(3)
    assert channels.take() in (1, 2)


def test_the_channel_unused_for_longest_is_taken_first() -> None:
    channels = Channels(4)
    first = channels.take()
    channels.release(first)
    assert [channels.take() for _ in range(3)] == [2, 3, first]


def test_a_released_channel_is_used_again() -> None:
    channels = Channels(3)
    taken = [channels.take(), channels.take()]
    channels.release(taken[1])
    assert channels.take() == taken[1]


@given(st.integers(2, 6), st.lists(st.integers(-1, 30)))
def test_the_least_used_channel_is_taken_after_any_sequence_of_moves(count: int, moves: list[int]) -> None:
    channels = Channels(count)
    load = dict.fromkeys(range(1, count), 0)
    living: list[int] = []
    for move in moves:
        if move < 0:
            channel = channels.take()
            assert load[channel] == min(load.values())
        elif move < len(living):
            channel = living.pop(move)
            channels.release(channel)
            load[channel] -= 1
            continue
        else:
            channel = 1 + move % (count - 1)
            channels.share(channel)
        load[channel] += 1
        living.append(channel)
