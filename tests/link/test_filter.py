"""What passes the filter: each command of ENet's as it writes it, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import datagrams as dg
from toxproxy.link import filter as subject
from toxproxy.link.carrier import MAX_PACKET, MTU
from toxproxy.link.filter import MOST_FRAMES, MOST_HELD, PART, Filter, Held
from toxproxy.mux import frames


def passes(datagram: bytes, *, connecting: bool = False, up: bool = True) -> bool:
    """Whether all of a datagram reaches an ENet to which nothing came before."""
    there = Filter(connecting=connecting)
    there.up = up
    allowed = there.incoming(memoryview(datagram))
    assert 0 <= allowed <= len(datagram)
    return allowed == len(datagram) > 0


WHOLE = {
    "an acknowledgement": dg.untimed(dg.ack(3, 7, 99)),
    "all the acknowledgements that fit": dg.untimed(*(dg.ack(3, n) for n in range(1, 33))),
    "acknowledgements of control commands": dg.untimed(dg.ack(0xFF, 1), dg.ack(0xFF, 2)),
    "the end": dg.untimed(dg.disconnect(5)),
    "the end, and whether the peer is there": dg.timed(dg.disconnect(5), dg.ping(6)),
    "a ping": dg.timed(dg.ping(4)),
    "the bandwidth of a host without limits": dg.timed(dg.bandwidth(3)),
    "the throttle as a link sets it": dg.timed(dg.throttle(2)),
    "a small frame": dg.timed(dg.reliable(0, 1, b"x")),
    "a frame that just needs no fragments": dg.timed(dg.reliable(254, 1, bytes(PART))),
    "a fragment": dg.timed(dg.fragments(7, 1, bytes(9000))[0]),
    "a last fragment": dg.timed(dg.fragments(7, 1, bytes(9000))[-1]),
    "a last fragment of full length": dg.timed(dg.fragments(7, 1, bytes(2 * PART))[1]),
    "a fragment of the largest frame": dg.timed(dg.fragments(7, 1, bytes(16384))[12]),
    "some of everything": dg.timed(
        dg.ack(1, 1), dg.ack(2, 2), dg.ping(4), dg.reliable(3, 1, b"y"), dg.fragments(4, 1, bytes(1350))[1]
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_enet_writes_passes_whole_and_no_piece_of_it_does(name: str) -> None:
    datagram = WHOLE[name]
    assert passes(datagram)
    assert Filter(connecting=True).outgoing(datagram)
    boundaries = set(_boundaries(datagram))
    for length in range(len(datagram)):
        assert not passes(datagram[:length]) or length in boundaries
    for more in (b"\0", b"\0\0\0\0", dg.ack(1, 1)[:7], b"\x01", bytes(24), b"\xff" * 8):
        assert not passes(datagram + more)


def _boundaries(datagram: bytes) -> Iterator[int]:
    """Where a datagram could end as well: after one command or another."""
    at = 4 if datagram[0] & 0x80 else 2
    for command in dg.commands(datagram):
        at += len(command)
        yield at


def test_the_handshake_passes_towards_the_side_that_waits_for_it() -> None:
    connect, verify = dg.connect(77), dg.verify(77)
    assert passes(connect, connecting=False, up=False)
    assert not passes(connect, connecting=True, up=False)
    assert not passes(connect, connecting=True)
    assert passes(verify, connecting=True, up=False)
    assert passes(connect, connecting=False), "it comes again where the answer was lost"
    assert passes(verify, connecting=True), "it comes again where its acknowledgement was lost"
    assert not passes(verify, connecting=False, up=False)
    assert not passes(verify, connecting=False)
    assert Filter(connecting=True).outgoing(connect)
    assert Filter(connecting=False).outgoing(verify)
    assert not Filter(connecting=False).outgoing(connect)
    assert not Filter(connecting=True).outgoing(verify)
    for whole, connecting in ((connect, False), (verify, True)):
        for length in range(len(whole)):
            assert not passes(whole[:length], connecting=connecting, up=False)
        for more in (b"\0", dg.ack(1, 1), dg.ping(2)):
            assert not passes(whole + more, connecting=connecting, up=False)


SETTINGS = (65536, 255, 0, 0, 5000, 2, 2)


@pytest.mark.parametrize("at", range(len(SETTINGS)))
@pytest.mark.parametrize("by", [-1, 1, 1 << 31])
def test_a_connection_with_other_settings_is_none(at: int, by: int) -> None:
    settings = list(SETTINGS)
    settings[at] = (settings[at] + by) % (1 << 32)
    assert not passes(dg.connect(7, settings=tuple(settings)), up=False)
    assert not passes(dg.verify(7, settings=tuple(settings)), connecting=True, up=False)


@pytest.mark.parametrize("mtu", [0, 576, 1370, 1372, 4096, 1 << 31])
def test_a_connection_with_another_mtu_is_none(mtu: int) -> None:
    assert not passes(dg.connect(7, mtu=mtu), up=False)
    assert not passes(dg.verify(7, mtu=mtu), connecting=True, up=False)


LIES = {
    "nothing": b"",
    "no command": dg.timed(),
    "one fragment that declares the largest frame": dg.timed(
        dg.fragment(1, 1, 0, 1, 16384, b"\x13" + bytes(12))
    ),
    "a million parts": dg.timed(dg.fragment(1, 1, 0, 1 << 20, 1, b"")),
    "a million parts of the largest frame": dg.timed(dg.fragment(1, 1, 0, 1 << 20, 16384, bytes(PART))),
    "a part too few": dg.timed(dg.fragment(1, 1, 0, 6, 9000, bytes(PART))),
    "a part too many": dg.timed(dg.fragment(1, 1, 0, 8, 9000, bytes(PART))),
    "a fragment of nothing": dg.timed(dg.fragment(1, 1, 0, 7, 9000, b"")),
    "a short fragment in the middle": dg.timed(dg.fragment(1, 1, 1, 7, 9000, bytes(PART - 1))),
    "a last fragment with a byte too few": dg.timed(dg.fragment(1, 1, 6, 7, 9000, bytes(941))),
    "a last fragment with a byte too many": dg.timed(dg.fragment(1, 1, 6, 7, 9000, bytes(943))),
    "a fragment beyond the last": dg.timed(dg.fragment(1, 1, 7, 7, 9000, bytes(942))),
    "a fragment at another place": dg.timed(dg.fragment(1, 1, 1, 7, 9000, bytes(PART), offset=0)),
    "a fragment far beyond": dg.timed(dg.fragment(1, 1, 1, 7, 9000, bytes(PART), offset=1 << 31)),
    "a frame that needs no fragments": dg.timed(dg.fragment(1, 1, 0, 1, PART, bytes(PART))),
    "a frame that is too large": dg.timed(dg.fragments(1, 1, bytes(16385))[0]),
    "a frame of nothing": dg.timed(dg.reliable(1, 1, b"")),
    "a frame that should be in fragments": dg.timed(dg.reliable(1, 1, bytes(PART + 1))),
    "a frame on the control channel": dg.timed(dg.reliable(0xFF, 1, b"x")),
    "a fragment on the control channel": dg.timed(dg.fragments(0xFF, 1, bytes(9000))[0]),
    "an unreliable frame": dg.untimed(b"\x07\x01\0\1\0\1\0\1x"),
    "an unsequenced frame": dg.untimed(b"\x49\x01\0\0\0\1\0\1x"),
    "an unreliable fragment": dg.timed(b"\x0c" + dg.fragments(1, 1, bytes(9000))[0][1:]),
    "a frame that wants no acknowledgement": dg.timed(dg.reliable(1, 1, b"x", kind=dg.RELIABLE)),
    "a frame that wants to be told of twice": dg.timed(dg.reliable(1, 1, b"x", kind=0xC6)),
    "a frame without a time": dg.untimed(dg.reliable(1, 1, b"x")),
    "an acknowledgement that wants one": dg.timed(b"\x81" + dg.ack(1, 1)[1:]),
    "an acknowledgement of two numbers": dg.untimed(dg.ack(1, 1, again=2)),
    "acknowledgements that say when they left": dg.timed(dg.ack(1, 1)),
    "acknowledgements behind a frame": dg.timed(dg.reliable(1, 1, b"x"), dg.ack(1, 1)),
    "more acknowledgements than fit": dg.untimed(*(dg.ack(1, n) for n in range(33))),
    "more commands than ENet has room for": dg.timed(*(dg.ping(n) for n in range(33))),
    "more of both": dg.timed(*(dg.ack(1, n) for n in range(16)), *(dg.ping(n) for n in range(17))),
    "a ping on a channel": dg.timed(b"\x85\x01\0\1"),
    "a ping without a time": dg.untimed(dg.ping(1)),
    "an end that wants an acknowledgement": dg.timed(dg.disconnect(1, kind=0x84)),
    "an end with a reason": dg.untimed(dg.disconnect(1, data=1)),
    "an end behind an acknowledgement": dg.untimed(dg.ack(1, 1), dg.disconnect(1)),
    "an end and an acknowledgement": dg.untimed(dg.disconnect(1), dg.ack(1, 1)),
    "an end with a time": dg.timed(dg.disconnect(1)),
    "an end and a frame": dg.timed(dg.disconnect(1), dg.reliable(1, 1, b"x")),
    "a bandwidth": dg.timed(dg.bandwidth(1, incoming=1)),
    "another bandwidth": dg.timed(dg.bandwidth(1, outgoing=1)),
    "another throttle": dg.timed(dg.throttle(1, slower=2)),
    "a compressed datagram": b"\xc0\0\0\0" + dg.ping(1),
    "another session": b"\x90\0\0\0" + dg.ping(1),
    "another session's acknowledgement": b"\x10\0" + dg.ack(1, 1),
    "another peer": b"\x80\1\0\0" + dg.ping(1),
    "nobody's ping": b"\x8f\xff\0\0" + dg.ping(1),
    "no such command": dg.timed(b"\x80\xff\0\1"),
    "command 13": dg.timed(b"\x8d\xff\0\1" + bytes(44)),
    "a datagram that is too long": dg.timed(
        dg.ping(1), dg.reliable(1, 1, bytes(PART)), dg.reliable(1, 2, bytes(9))
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_what_enet_does_not_write_does_not_pass(name: str) -> None:
    for connecting in (False, True):
        for up in (False, True):
            assert Filter(connecting=connecting).outgoing(LIES[name]) is False
            assert not passes(LIES[name], connecting=connecting, up=up)


def test_its_sizes_are_those_of_the_layers_around_it() -> None:
    assert subject.MTU == MTU < MAX_PACKET
    assert subject.MOST_FRAME == frames.MAX_FRAME


# Arbitrary datagrams

_SEQUENCES = st.integers(0, 0xFFFF)
_COMMANDS = st.one_of(
    st.builds(dg.ack, st.integers(0, 255), _SEQUENCES, _SEQUENCES),
    st.builds(dg.ping, _SEQUENCES),
    st.builds(dg.reliable, st.integers(0, 255), _SEQUENCES, st.binary(max_size=20)),
    st.builds(
        dg.fragment,
        st.integers(0, 255),
        _SEQUENCES,
        st.integers(0, 14),
        st.integers(0, 14),
        st.integers(0, 17000),
        st.binary(max_size=20) | st.just(bytes(PART)),
    ),
    st.integers(PART + 1, 16384).flatmap(lambda total: st.sampled_from(dg.fragments(1, 60000, bytes(total)))),
)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    head = draw(st.sampled_from([b"\x80\0\0\0", b"\0\0"]) | st.binary(max_size=4))
    whole = head + b"".join(draw(st.lists(_COMMANDS, max_size=6)))
    whole = draw(st.sampled_from([whole, *WHOLE.values(), dg.connect(1), dg.verify(1)]))
    if not draw(st.booleans()):
        return whole
    at = draw(st.integers(0, len(whole)))
    return whole[:at] + draw(st.binary(max_size=4)) + whole[at + draw(st.integers(0, 4)) :]


@given(datagrams() | st.binary(max_size=80), st.booleans(), st.booleans())
def test_what_passes_can_be_written_again_from_its_fields_alone(
    datagram: bytes, connecting: bool, up: bool
) -> None:
    if not passes(datagram, connecting=connecting, up=up):
        return
    commands = list(dg.commands(datagram))
    assert 1 <= len(commands) <= 32
    head = 0 if commands[-1][0] in (0x01, 0x44) else 0x8000
    if commands[0][0] == 0x82:
        head = 0x8FFF
    written = head.to_bytes(2) + (datagram[2:4] if head else b"")
    assert datagram == written + b"".join(map(dg.written_again, commands))
    assert all(dg.is_covered(command) for command in commands if command[0] == 0x88)


# What ENet has to keep


def feed(there: Filter, *commands: bytes) -> int:
    """How many bytes of these commands pass in one datagram."""
    datagram = dg.timed(*commands)
    allowed = there.incoming(datagram)
    return allowed - 4 if allowed else 0


@pytest.fixture
def there() -> Filter:
    there = Filter(connecting=False)
    there.up = True
    return there


class _Careful(Held):
    """Looks at every fragment as at the first."""

    def continues(self, datagram: object) -> bool:
        return False


@st.composite
def full_fragments(draw: st.DrawFn) -> list[bytes]:
    """Datagrams of full length: fragments of a few frames, of which some say something wrong."""
    pieces = [
        bytearray(dg.timed(piece))
        for start, size in ((1, 9000), (8, 6 * PART), (14, 2 * PART))
        for piece in dg.fragments(draw(st.sampled_from([1, 1, 2])), start, bytes(size))
        if len(piece) == PART + 24
    ]
    chosen = draw(st.lists(st.sampled_from(pieces), max_size=30))
    wrong = draw(st.lists(st.tuples(st.integers(0, 29), st.integers(0, 27), st.integers(1, 255)), max_size=4))
    whole = [bytearray(piece) for piece in chosen]
    for number, at, bits in wrong:
        if number < len(whole):
            whole[number][at] ^= bits
    return [bytes(piece) for piece in whole]


@given(full_fragments())
def test_another_fragment_of_a_frame_is_judged_as_if_it_were_the_first(fragments: list[bytes]) -> None:
    quick, careful = Filter(connecting=False), Filter(connecting=False)
    quick.up = careful.up = True
    careful.held = _Careful()
    for datagram in fragments:
        assert quick.incoming(datagram) == careful.incoming(datagram)
        assert quick.held.bytes == careful.held.bytes
        assert quick.held.frames == careful.held.frames


def test_what_comes_in_order_is_not_held(there: Filter) -> None:
    sequence = 1
    for size in (1, 9000, 100, 16384, PART, PART + 1):
        frame = bytes(size)
        for command in dg.fragments(9, sequence, frame) if size > PART else [dg.reliable(9, sequence, frame)]:
            assert feed(there, command)
            sequence += 1
    assert (there.held.bytes, there.held.frames) == (0, 0)


def test_what_is_ahead_of_a_gap_is_held_until_it_closes(there: Filter) -> None:
    pieces = [*dg.fragments(1, 2, bytes(4000)), dg.reliable(1, 5, b"x"), *dg.fragments(1, 6, bytes(3000))]
    random.Random(1).shuffle(pieces)
    for piece in (*pieces, *pieces):  # each twice
        assert feed(there, piece)
    assert there.held.frames == 3
    assert 7001 < there.held.bytes < 9001
    assert feed(there, dg.reliable(1, 1, b"first"))
    assert (there.held.bytes, there.held.frames) == (0, 0)
    for piece in pieces:  # late ones
        assert feed(there, piece)
    assert there.held.frames == 0


def test_sequence_numbers_wrap(there: Filter) -> None:
    for number in range(1, 0x1_0000 - 3):
        assert there.held.take((4, 1, number, 1, 0, 1, 11))
    pieces = dg.fragments(1, 0xFFFD, bytes(9000))
    for piece in reversed(pieces):
        assert feed(there, piece)
    assert feed(there, dg.reliable(1, 4, b"x"))
    assert there.held.frames == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (dg.fragments(1, 5, bytes(4000))[0], dg.fragments(1, 5, bytes(4001))[1]),
        (dg.fragments(1, 5, bytes(4000))[0], dg.fragments(1, 5, bytes(9000))[1]),
        (dg.fragments(1, 5, bytes(4000))[0], dg.reliable(1, 5, b"x")),
        (dg.fragments(1, 5, bytes(4000))[0], dg.reliable(1, 7, b"x")),
        (dg.fragments(1, 5, bytes(4000))[2], dg.fragments(1, 4, bytes(4000))[0]),
        (dg.reliable(1, 5, b"x"), dg.fragments(1, 5, bytes(4000))[0]),
        (dg.reliable(1, 7, b"x"), dg.fragments(1, 5, bytes(4000))[0]),
        (dg.reliable(1, 13, b"x"), dg.fragments(1, 1, bytes(16384))[0]),
    ],
)
def test_two_frames_that_share_a_number_are_a_lie(there: Filter, first: bytes, second: bytes) -> None:
    assert feed(there, first)
    assert not feed(there, second)
    assert feed(there, first)


def test_what_is_before_a_lie_in_its_datagram_may_pass(there: Filter) -> None:
    assert feed(there, dg.fragments(1, 5, bytes(4000))[2])
    assert feed(there, dg.ping(3), dg.reliable(1, 6, b"a lie"), dg.ping(4)) == 4
    assert feed(there, dg.reliable(1, 6, b"a lie"), dg.ping(4)) == 0
    assert feed(there, dg.reliable(1, 1, b"x"), dg.reliable(1, 6, b"a lie")) == 7
    assert feed(there, dg.ack(2, 2), dg.reliable(1, 6, b"a lie")) == 8


def test_a_fragment_with_the_last_number_that_was_delivered_is_a_lie(there: Filter) -> None:
    """ENet would drop what follows it in the datagram."""
    assert feed(there, dg.reliable(1, 1, b"x"), dg.reliable(1, 2, b"x"))
    assert not feed(there, dg.fragments(1, 2, bytes(4000))[0])
    assert feed(there, dg.reliable(1, 2, b"x"))


def test_frames_ahead_are_bounded_for_each_channel(there: Filter) -> None:
    numbers = range(MOST_FRAMES + 500, 1, -1)
    passed = sum(feed(there, dg.reliable(1, number, b"x")) > 0 for number in numbers)
    assert passed == there.held.frames == MOST_FRAMES
    assert not feed(there, dg.reliable(1, 20000, b"x"))
    assert feed(there, dg.reliable(1, 1, b"x")), "what is next always passes"
    assert feed(there, dg.reliable(2, 2, b"x")), "the other channels are not full"


def test_bytes_ahead_are_bounded_for_the_link(there: Filter) -> None:
    """A fragment counts as its whole frame, for which ENet makes room."""
    passed = 0
    for channel in range(255):
        for start in range(2, 2 + 13 * MOST_FRAMES, 13):
            if feed(there, dg.fragments(channel, start, bytes(16384))[0]):
                passed += 1
    assert passed == MOST_HELD // (16384 + subject.FRAME_COST)
    assert there.held.bytes <= MOST_HELD
    for channel in range(255):
        assert feed(there, dg.reliable(channel, 1, b"x")), "what is next always passes"


def test_no_sequence_number_is_too_far_ahead_for_enet(there: Filter) -> None:
    assert feed(there, dg.reliable(1, 1 + subject.MOST_AHEAD, b"x"))
    assert not feed(there, dg.reliable(1, 2 + subject.MOST_AHEAD, b"x"))


def test_before_the_link_is_up_nothing_counts_as_seen() -> None:
    """ENet throws away what comes before the acknowledgement that connects it."""
    there = Filter(connecting=False)
    assert feed(there, dg.reliable(1, 1, b"x"))
    assert feed(there, dg.ack(0xFF, 1), dg.reliable(1, 2, b"x"))
    there.up = True
    assert there.held.frames == 1, "the first one is still to come"
