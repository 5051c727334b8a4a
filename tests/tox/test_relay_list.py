"""Which relays a friend says it uses."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.tox.relay_list import MOST, Relay, parse_relays, relay_packet

RELAYS = st.builds(Relay, st.ip_addresses(), st.integers(1, 65535), st.binary(min_size=32, max_size=32))
KEY = bytes(range(32))
TWO = (Relay(ip_address("192.0.2.1"), 33445, KEY), Relay(ip_address("2001:db8::1"), 2, KEY))
PACKET = relay_packet(TWO)


@given(st.lists(RELAYS, min_size=1, max_size=MOST))
def test_there_and_back(relays: list[Relay]) -> None:
    assert parse_relays(relay_packet(relays)) == tuple(relays)


def test_the_packet_as_the_specification_has_it() -> None:
    second = "0620010db8000000000000000000000001" + "0002" + KEY.hex()
    assert PACKET.hex() == "ba02" + "04c000020182a5" + KEY.hex() + second


@pytest.mark.parametrize("end", [n for n in range(len(PACKET)) if n != 2 + 7 + 32])
def test_a_packet_that_ends_too_early(end: int) -> None:
    with pytest.raises(ValueError, match=r"formed|layout"):
        parse_relays(PACKET[:end])


@pytest.mark.parametrize(
    "packet",
    [
        b"\xbb" + PACKET[1:],
        b"\xba\x01" + PACKET[2:],
        PACKET + b"\4",
        PACKET[:2] + b"\5" + PACKET[3:],
        relay_packet([Relay(IPv4Address("192.0.2.1"), 0, KEY)]),
        relay_packet(TWO * 3),
    ],
)
def test_what_is_not_one(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_relays(packet)


@given(st.binary(max_size=250))
def test_arbitrary_bytes_are_one_or_refused(packet: bytes) -> None:
    for data in (packet, PACKET[:2] + packet, PACKET[:41] + packet):
        try:
            relays = parse_relays(data)
        except ValueError:
            continue
        assert relay_packet(relays) == data
