"""Two replays whose links fail: no order of events loses, repeats or reorders a frame."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toxproxy.errors import RemoteProtocolError
from toxproxy.mux import frames
from toxproxy.mux.frames import Ack, Counts, Resume
from toxproxy.mux.replay import Replay

CHANNELS = 3
IDS = (1, 2)


class End:
    """One side: its sent and received frames, and those under way from it, by channel."""

    peer: End

    def __init__(self) -> None:
        self.replay = Replay()
        self.sent: defaultdict[int, list[bytes]] = defaultdict(list)
        self.got: defaultdict[int, list[bytes]] = defaultdict(list)
        self.wire: defaultdict[int, deque[bytes]] = defaultdict(deque)
        self.here = True  # whether the peer's RESUME has come on this link

    def say(self, frame: frames.Frame) -> None:
        self.wire[0].append(frames.encode(frame))

    def take(self, channel: int, frame: bytes) -> None:
        """Handle a frame as `DurableLink` does."""
        match frames.decode(frame):
            case Ack(counts):
                self.replay.acknowledged(counts)
            case Resume(client, server, counts):
                assert (client, server) == IDS
                self.replay.resumed(counts)
                for again, old in self.replay.unacknowledged():
                    self.wire[again].append(old)
                self.here = True
            case _:
                self.replay.received(channel)
                self.got[channel].append(frame)


class Play:
    """Two ends, and what may happen between them. The near end begins the links."""

    def __init__(self) -> None:
        self.near, self.far = End(), End()
        self.near.peer, self.far.peer = self.far, self.near
        self._numbers = count()

    def send(self, end: End, channel: int) -> None:
        frame = frames.encode(frames.Ping(next(self._numbers)))
        end.sent[channel].append(frame)
        end.replay.sent(channel, frame)
        if end.here:
            end.wire[channel].append(frame)

    def deliver(self, end: End, channel: int) -> None:
        """One frame arrives at `end`."""
        wire = end.peer.wire[channel]
        if not wire:
            return
        frame = wire.popleft()
        if end is self.far and frame[0] == 0x05:
            end.say(end.replay.resumption(*IDS))
        end.take(channel, frame)

    def acknowledge(self, end: End, _: int) -> None:
        if end.here:
            end.say(end.replay.acknowledgement())

    def lose(self, _: End, __: int) -> None:
        """Lose the link with everything on it, and begin the next one."""
        for end in (self.near, self.far):
            end.wire.clear()
            end.here = False
        self.near.say(self.near.replay.resumption(*IDS))

    def curtain(self) -> None:
        """Deliver everything that is under way."""
        while any(end.wire[channel] for end in (self.near, self.far) for channel in range(CHANNELS)):
            for end in (self.near, self.far):
                for channel in range(CHANNELS):
                    self.deliver(end, channel)


Act = Callable[[Play, End, int], None]
ACTS: list[Act] = [Play.send, Play.send, Play.deliver, Play.deliver, Play.acknowledge, Play.lose]
script = st.lists(
    st.tuples(st.sampled_from(ACTS), st.booleans(), st.integers(0, CHANNELS - 1)), min_size=10, max_size=80
)


@given(script)
def test_no_order_of_events_loses_repeats_or_reorders_a_frame(script: list[tuple[Act, bool, int]]) -> None:
    play = Play()
    for act, near, channel in script:
        act(play, play.near if near else play.far, channel)
        for end in (play.near, play.far):
            for got, frames_got in end.got.items():
                assert frames_got == end.peer.sent[got][: len(frames_got)]
            waiting = [frame for _, frame in end.replay.unacknowledged()]
            assert end.replay.kept >= sum(map(len, waiting))
    play.curtain()
    for end in (play.near, play.far):
        for channel in range(CHANNELS):
            assert end.got[channel] == end.peer.sent[channel]

    for end in (play.near, play.far):
        play.acknowledge(end, 0)
    play.curtain()
    for end in (play.near, play.far):
        assert not list(end.replay.unacknowledged())
        assert end.replay.kept == 0


@given(st.lists(st.integers(0, 5), max_size=30))
def test_an_acknowledgement_has_only_the_counts_that_changed(channels: list[int]) -> None:
    replay = Replay()
    for channel in channels:
        replay.received(channel)
    totals = tuple((channel, channels.count(channel)) for channel in sorted(set(channels)))
    assert replay.acknowledgement() == Ack(totals)
    assert replay.acknowledgement() == Ack(())
    assert replay.resumption(*IDS) == Resume(*IDS, totals)
    replay.received(3)
    assert replay.acknowledgement() == Ack(((3, channels.count(3) + 1),))


def test_a_resume_acknowledges_too() -> None:
    replay = Replay()
    replay.received(1)
    replay.resumption(*IDS)
    assert replay.acknowledgement() == Ack(())


def test_channels_take_turns_during_a_replay() -> None:
    replay = Replay()
    for channel, frame in ((2, b"c"), (1, b"a"), (2, b"d"), (2, b"e"), (1, b"b")):
        replay.sent(channel, frame)
    assert list(replay.unacknowledged()) == [(1, b"a"), (2, b"c"), (1, b"b"), (2, b"d"), (2, b"e")]


def test_a_channel_that_a_resume_does_not_name_counts_0() -> None:
    replay = Replay()
    replay.sent(1, b"one")
    replay.sent(2, b"two")
    replay.resumed(((1, 1),))
    assert list(replay.unacknowledged()) == [(2, b"two")]
    replay.resumed(((1, 1), (2, 1)))
    with pytest.raises(
        RemoteProtocolError, match="acknowledgement of 0 frames on channel 1, expected 1 to 1"
    ):
        replay.resumed(((2, 1),))


# Two frames were sent on each of three channels. Acknowledged are one on the first, both on the second.
POSSIBLE = {0: range(1, 3), 1: range(2, 3), 2: range(3)}


def half_way() -> Replay:
    replay = Replay()
    for channel in POSSIBLE:
        for number in range(2):
            replay.sent(channel, b"%d %d" % (channel, number))
    replay.acknowledged(((0, 1), (1, 2)))
    return replay


counts: st.SearchStrategy[Counts] = st.dictionaries(
    st.integers(0, 4) | st.integers(0, 255), st.integers(0, 3) | st.integers(0, (1 << 64) - 1), max_size=5
).map(lambda by: tuple(sorted(by.items())))


@pytest.mark.parametrize("say", [Replay.acknowledged, Replay.resumed])
@given(counts=counts)
@example(counts=((0, 3),))
@example(counts=((0, 0), (1, 2), (2, 2)))
@example(counts=((0, 1), (1, 2), (3, 1)))
@example(counts=((0, 2), (1, 2), (2, 9)))
def test_counts_are_accepted_if_possible_else_the_peers_error(
    say: Callable[[Replay, Counts], None], counts: Counts
) -> None:
    replay = half_way()
    said = dict.fromkeys(POSSIBLE, 0) if say is Replay.resumed else {}
    said |= dict(counts)
    if all(number in POSSIBLE.get(channel, range(1)) for channel, number in said.items()):
        say(replay, counts)
        left = {channel: said.get(channel, POSSIBLE[channel][0]) for channel in POSSIBLE}
        expected = [(c, b"%d %d" % (c, n)) for n in range(2) for c in POSSIBLE if n >= left[c]]
        assert sorted(replay.unacknowledged()) == sorted(expected)
    else:
        with pytest.raises(RemoteProtocolError, match="acknowledgement of"):
            say(replay, counts)


@pytest.mark.parametrize("say", [Replay.acknowledged, Replay.resumed])
def test_impossible_counts_change_nothing(say: Callable[[Replay, Counts], None]) -> None:
    replay, untouched = half_way(), half_way()
    with pytest.raises(RemoteProtocolError, match="acknowledgement of 9 frames on channel 2"):
        say(replay, ((0, 2), (1, 2), (2, 9)))
    assert list(replay.unacknowledged()) == list(untouched.unacknowledged())
    assert replay.kept == untouched.kept
