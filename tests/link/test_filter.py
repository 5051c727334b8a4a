"""What passes the filter: each command of ENet's as it writes it for a link, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import datagrams as dg
from toxproxy.link import filter as subject
from toxproxy.link.carrier import MAX_PACKET, MTU
from toxproxy.link.filter import PACKET_SIZE, packets_in
from toxproxy.recovery.sent import PACKET_SIZE as RECOVERYS


def passes(datagram: bytes, *, connecting: bool = False) -> bool:
    """Whether a datagram reaches ENet."""
    allowed = packets_in(memoryview(datagram), from_client=not connecting) is not None
    quick = subject.is_packet(b"\xe2\x07" + datagram, 2, len(datagram))
    assert allowed or not quick, "the quick way is not a way around"
    return allowed


WHOLE = {
    "an acknowledgement": (0, dg.untimed(dg.ack(0xFF, 7, 99))),
    "all the acknowledgements that fit": (0, dg.untimed(*(dg.ack(0xFF, n) for n in range(1, 33)))),
    "the end": (0, dg.untimed(dg.disconnect(5))),
    "the end, and whether the peer is there": (0, dg.timed(dg.disconnect(5), dg.ping(6))),
    "a ping": (0, dg.timed(dg.ping(4))),
    "many pings": (0, dg.timed(*(dg.ping(n) for n in range(16)))),
    "the bandwidth of a host without limits": (0, dg.timed(dg.bandwidth(3))),
    "the throttle as a link sets it": (0, dg.timed(dg.throttle(2))),
    "a small packet": (1, dg.untimed(dg.packet(b"x"))),
    "the largest packet": (1, dg.untimed(dg.packet(bytes(PACKET_SIZE), 0xFFFF))),
    "the largest packet and a ping": (1, dg.timed(dg.ping(1), dg.packet(bytes(PACKET_SIZE)))),
    "the largest packet and what it leaves room for": (
        1,
        dg.untimed(dg.ack(0xFF, 1), dg.ack(0xFF, 2), dg.packet(bytes(PACKET_SIZE))),
    ),
    "packets": (3, dg.untimed(*(dg.packet(b"abc"[:n], n) for n in range(1, 4)))),
    "as many packets as ENet writes": (32, dg.untimed(*(dg.packet(b"x", n) for n in range(32)))),
    "some of everything": (
        2,
        dg.timed(
            dg.ack(0xFF, 1), dg.ack(0xFF, 2), dg.ping(4), dg.packet(b"y"), dg.throttle(3), dg.packet(b"z")
        ),
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_enet_writes_passes_whole_and_no_piece_of_it_does(name: str) -> None:
    packets, datagram = WHOLE[name]
    assert passes(datagram)
    assert passes(datagram, connecting=True)
    assert packets_in(datagram, from_client=True) == packets
    boundaries = set(_boundaries(datagram))
    for length in range(len(datagram)):
        assert not passes(datagram[:length]) or length in boundaries
    for more in (b"\0", b"\0\0\0\0", dg.ack(0xFF, 1)[:7], b"\x01", bytes(24), b"\xff" * 8):
        assert not passes(datagram + more)


def _boundaries(datagram: bytes) -> Iterator[int]:
    """Where a datagram could end as well: after one command or another."""
    at = 4 if datagram[0] & 0x80 else 2
    for command in dg.commands(datagram):
        at += len(command)
        yield at


def test_a_packet_alone_is_found_where_it_is() -> None:
    for size in (1, 2, 17, PACKET_SIZE):
        datagram = dg.untimed(dg.packet(bytes(size)))
        assert len(datagram) == subject.PACKET_AT + size
        assert subject.is_packet(datagram, 0, len(datagram))
        assert subject.is_packet(b"abc" + datagram + b"abc", 3, len(datagram))
        assert not subject.is_packet(datagram + b"x", 0, len(datagram) + 1)
        assert not subject.is_packet(datagram, 0, len(datagram) - 1)


def test_the_handshake_passes_towards_the_side_that_waits_for_it() -> None:
    connect, verify = dg.connect(77), dg.verify(77)
    assert passes(connect, connecting=False)
    assert not passes(connect, connecting=True)
    assert passes(verify, connecting=True)
    assert not passes(verify, connecting=False)
    assert packets_in(connect, from_client=True) == 0
    assert packets_in(verify, from_client=False) == 0
    assert packets_in(connect, from_client=False) is None
    assert packets_in(verify, from_client=True) is None
    for whole, connecting in ((connect, False), (verify, True)):
        for length in range(len(whole)):
            assert not passes(whole[:length], connecting=connecting)
        for more in (b"\0", dg.ack(0xFF, 1), dg.ping(2), dg.packet(b"x")):
            assert not passes(whole + more, connecting=connecting)


SETTINGS = (65536, 1, 0, 0, 5000, 2, 2)


@pytest.mark.parametrize("at", range(len(SETTINGS)))
@pytest.mark.parametrize("by", [-1, 1, 1 << 31])
def test_a_connection_with_other_settings_is_none(at: int, by: int) -> None:
    settings = list(SETTINGS)
    settings[at] = (settings[at] + by) % (1 << 32)
    assert not passes(dg.connect(7, settings=tuple(settings)))
    assert not passes(dg.verify(7, settings=tuple(settings)), connecting=True)


@pytest.mark.parametrize("mtu", [0, 576, 1370, 1372, 4096, 1 << 31])
def test_a_connection_with_another_mtu_is_none(mtu: int) -> None:
    assert not passes(dg.connect(7, mtu=mtu))
    assert not passes(dg.verify(7, mtu=mtu), connecting=True)


LIES = {
    "nothing": b"",
    "a header": b"\0\0",
    "no command": dg.timed(),
    "a reliable packet": dg.timed(dg.reliable(0, 1, b"x")),
    "a reliable packet of full length": dg.timed(dg.reliable(0, 1, bytes(dg.PART))),
    "a reliable packet that wants no acknowledgement": dg.untimed(dg.reliable(0, 1, b"x", kind=dg.RELIABLE)),
    "a fragment": dg.timed(dg.fragments(0, 1, bytes(9000))[0]),
    "a fragment that declares more than it brings": dg.timed(
        dg.fragment(0, 1, 0, 1, 16384, b"\x13" + bytes(12))
    ),
    "a million parts": dg.timed(dg.fragment(0, 1, 0, 1 << 20, 1, b"")),
    "an unreliable packet": dg.untimed(b"\x07\0\0\0\0\1\0\1x"),
    "an unreliable fragment": dg.untimed(b"\x0c" + dg.fragments(0, 1, bytes(9000))[0][1:]),
    "a packet of nothing": dg.untimed(dg.packet(b"")),
    "a packet of nothing, and another": dg.untimed(dg.packet(b""), dg.packet(b"x")),
    "a packet that ENet would cut": dg.untimed(dg.packet(bytes(PACKET_SIZE + 1))),
    "a packet on another channel": dg.untimed(dg.packet(b"x", channel=1)),
    "a packet on the control channel": dg.untimed(dg.packet(b"x", channel=0xFF)),
    "a packet with a number": dg.untimed(dg.packet(b"x", number=1)),
    "a packet that wants an acknowledgement": dg.timed(dg.packet(b"x", kind=0xC9)),
    "a packet that does not say that it has no order": dg.untimed(dg.packet(b"x", kind=0x09)),
    "a packet with a time": dg.timed(dg.packet(b"x")),
    "a packet and a ping without a time": dg.untimed(dg.packet(b"x"), dg.ping(1)),
    "more packets than ENet writes": dg.untimed(*(dg.packet(b"x", n) for n in range(33))),
    "an acknowledgement of data": dg.untimed(dg.ack(0, 1)),
    "an acknowledgement on a channel that is not there": dg.untimed(dg.ack(0xFF, 1), dg.ack(1, 1)),
    "an acknowledgement that wants one": dg.timed(b"\x81" + dg.ack(0xFF, 1)[1:]),
    "an acknowledgement of two numbers": dg.untimed(dg.ack(0xFF, 1, again=2)),
    "acknowledgements that say when they left": dg.timed(dg.ack(0xFF, 1)),
    "acknowledgements behind a packet": dg.untimed(dg.packet(b"x"), dg.ack(0xFF, 1)),
    "more acknowledgements than fit": dg.untimed(*(dg.ack(0xFF, n) for n in range(33))),
    "more pings than are answered": dg.timed(*(dg.ping(n) for n in range(17))),
    "more of both": dg.timed(*(dg.ack(0xFF, n) for n in range(17)), *(dg.ping(n) for n in range(16))),
    "a ping on a channel": dg.timed(b"\x85\0\0\1"),
    "a ping without a time": dg.untimed(dg.ping(1)),
    "an end that wants an acknowledgement": dg.timed(dg.disconnect(1, kind=0x84)),
    "an end with a reason": dg.untimed(dg.disconnect(1, data=1)),
    "an end behind an acknowledgement": dg.untimed(dg.ack(0xFF, 1), dg.disconnect(1)),
    "an end and an acknowledgement": dg.untimed(dg.disconnect(1), dg.ack(0xFF, 1)),
    "an end with a time": dg.timed(dg.disconnect(1)),
    "an end and a packet": dg.untimed(dg.disconnect(1), dg.packet(b"x")),
    "a bandwidth": dg.timed(dg.bandwidth(1, incoming=1)),
    "another bandwidth": dg.timed(dg.bandwidth(1, outgoing=1)),
    "another throttle": dg.timed(dg.throttle(1, slower=2)),
    "a compressed datagram": b"\xc0\0\0\0" + dg.ping(1),
    "another session": b"\x90\0\0\0" + dg.ping(1),
    "another session's packet": b"\x10\0" + dg.packet(b"x"),
    "another peer": b"\x80\1\0\0" + dg.ping(1),
    "another peer's packet": b"\0\1" + dg.packet(b"x"),
    "nobody's ping": b"\x8f\xff\0\0" + dg.ping(1),
    "nobody's packet": b"\x0f\xff" + dg.packet(b"x"),
    "no such command": dg.timed(b"\x80\xff\0\1"),
    "command 13": dg.timed(b"\x8d\xff\0\1" + bytes(44)),
    "a datagram that is too long": dg.untimed(dg.packet(bytes(PACKET_SIZE)), dg.packet(bytes(12))),
}


@pytest.mark.parametrize("name", LIES)
def test_what_enet_does_not_write_does_not_pass(name: str) -> None:
    for connecting in (False, True):
        assert packets_in(LIES[name], from_client=connecting) is None
        assert not passes(LIES[name], connecting=connecting)


def test_its_sizes_are_those_of_the_layers_around_it() -> None:
    assert subject.MTU == MTU < MAX_PACKET
    assert PACKET_SIZE == RECOVERYS == dg.PART


# Arbitrary datagrams

_NUMBERS = st.integers(0, 0xFFFF)
_CHANNELS = st.sampled_from([0, 0, 0xFF, 0xFF, 1])
_COMMANDS = st.one_of(
    st.builds(dg.ack, _CHANNELS, _NUMBERS, _NUMBERS),
    st.builds(dg.ping, _NUMBERS),
    st.builds(dg.packet, st.binary(max_size=20) | st.just(bytes(PACKET_SIZE)), _NUMBERS, channel=_CHANNELS),
    st.builds(dg.reliable, _CHANNELS, _NUMBERS, st.binary(max_size=20)),
    st.builds(
        dg.fragment,
        _CHANNELS,
        _NUMBERS,
        st.integers(0, 14),
        st.integers(0, 14),
        st.integers(0, 17000),
        st.binary(max_size=20) | st.just(bytes(PACKET_SIZE)),
    ),
)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    head = draw(st.sampled_from([b"\x80\0\0\0", b"\0\0"]) | st.binary(max_size=4))
    whole = head + b"".join(draw(st.lists(_COMMANDS, max_size=6)))
    known = [datagram for _, datagram in WHOLE.values()]
    whole = draw(st.sampled_from([whole, *known, dg.connect(1), dg.verify(1)]))
    if not draw(st.booleans()):
        return whole
    at = draw(st.integers(0, len(whole)))
    return whole[:at] + draw(st.binary(max_size=4)) + whole[at + draw(st.integers(0, 4)) :]


@given(datagrams() | st.binary(max_size=80), st.booleans())
def test_what_passes_can_be_written_again_from_its_fields_alone(datagram: bytes, connecting: bool) -> None:
    if not passes(datagram, connecting=connecting):
        return
    commands = list(dg.commands(datagram))
    assert 1 <= len(commands) <= 32
    head = 0x8000 if any(command[0] & 0x80 for command in commands) else 0
    if commands[0][0] == 0x82:
        head = 0x8FFF
    written = head.to_bytes(2) + (datagram[2:4] if head else b"")
    assert datagram == written + b"".join(map(dg.written_again, commands))
    packets = sum(command[0] == 0x49 for command in commands)
    assert packets_in(datagram, from_client=not connecting) == packets
    assert subject.is_packet(datagram, 0, len(datagram)) == (len(commands) == packets == 1)
