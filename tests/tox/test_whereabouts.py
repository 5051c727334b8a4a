"""Where a friend says its node is."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.tox.whereabouts import MOST, Whereabouts, is_near, is_private, is_public, parse

PLACES = st.tuples(st.ip_addresses(), st.integers(1, 65535))
WHERE = Whereabouts(bytes(range(32)), ((ip_address("192.0.2.1"), 33445), (ip_address("2001:db8::1"), 2)))


@given(st.binary(min_size=32, max_size=32), st.lists(PLACES, max_size=MOST), st.booleans())
def test_there_and_back(key: bytes, places: list[tuple[IPv4Address, int]], udp: bool) -> None:
    where = Whereabouts(key, tuple(places), udp)
    assert parse(where.packet()) == where


def test_the_packet_as_the_specification_has_it() -> None:
    addresses = "04c000020182a5" + "0620010db8000000000000000000000001" + "0002"
    assert WHERE.packet().hex() == "ba01" + bytes(range(32)).hex() + "01" + addresses


@pytest.mark.parametrize("end", [n for n in range(len(WHERE.packet())) if n not in (35, 42)])
def test_a_packet_that_ends_too_early(end: int) -> None:
    with pytest.raises(ValueError, match=r"bytes|formed"):
        parse(WHERE.packet()[:end])


@pytest.mark.parametrize(
    "packet",
    [
        b"\xbb" + WHERE.packet()[1:],
        b"\xba\x02" + WHERE.packet()[2:],
        WHERE.packet() + b"\4",
        WHERE.packet()[:35] + b"\5" + WHERE.packet()[36:],
        Whereabouts(bytes(32), ((ip_address("192.0.2.1"), 0),)).packet(),
        Whereabouts(bytes(32), WHERE.places * 5).packet(),
    ],
)
def test_what_is_not_one(packet: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(packet)


@given(st.binary(max_size=250))
def test_arbitrary_bytes_are_one_or_refused(packet: bytes) -> None:
    for data in (packet, WHERE.packet()[:35] + packet):
        try:
            where = parse(data)
        except ValueError:
            continue
        assert where.packet() == data[:34] + bytes([data[34] & 1]) + data[35:]  # unknown flags are ignored


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("11.0.0.1", True, False),
        ("2001:db8::1", True, False),
        *((host, False, True) for host in ("10.1.2.3", "172.31.0.1", "192.168.0.1")),
        *((host, False, False) for host in ("0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1")),
        *((host, False, False) for host in ("255.255.255.255", "::", "::1", "fe80::1", "ff02::1")),
        *((host, False, False) for host in ("::ffff:10.0.0.1", "64:ff9b::7f00:1", "100.64.0.1", "fd00::1")),
    ],
)
def test_kinds_of_addresses(address: str, public: bool, private: bool) -> None:
    assert (is_public(ip_address(address)), is_private(ip_address(address))) == (public, private)


def test_a_private_address_is_near_where_this_machine_has_another_of_that_network() -> None:
    own = {ip_address("192.168.1.2"), ip_address("11.0.0.1")}
    assert is_near(ip_address("192.168.7.7"), own)
    assert not is_near(ip_address("10.0.0.1"), own)
    assert not is_near(ip_address("11.0.0.2"), own)
