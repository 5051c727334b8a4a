"""PCP's and NAT-PMP's packets, announcements and the router's clock."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.mapping import natpmp, pcp
from toxproxy.mapping.announcements import Announced, parse_announcement
from toxproxy.mapping.epoch import Epoch
from toxproxy.mapping.grant import By, Failure, Grant, Mapping, MappingError

NONCE, PORT = bytes(range(12)), 33445
OUTSIDE = IPv4Address("8.8.4.4")


def pcp_answer(
    result: int = 0, lifetime: int = 600, port: int = 40000, address: bytes = b"", version: int = 2
) -> bytes:
    head = struct.pack("!BBBBII12x", version, 0x81, 0, result, lifetime, 77)
    where = address or bytes(10) + b"\xff\xff" + OUTSIDE.packed
    return head + struct.pack("!12sB3xHH16s", NONCE, 17, PORT, port, where)


# PCP


def test_a_request_of_pcp_is_laid_out_as_in_rfc_6887() -> None:
    request = pcp.map_request(NONCE, IPv4Address("192.168.1.2"), PORT, 40000, 1200)
    assert request.hex() == (
        "0201" "0000" "000004b0" "00000000000000000000ffffc0a80102"  # section 7.1, then 11.1
        "000102030405060708090a0b" "11" "000000" "82a5" "9c40" "00000000000000000000ffff00000000"
    )  # fmt: skip


def test_the_answer_of_pcp_is_a_grant() -> None:
    assert pcp.parse_grant(pcp_answer(), NONCE, PORT) == Grant(OUTSIDE, 40000, 600, 77)
    assert pcp.parse_grant(pcp_answer() + bytes(8), NONCE, PORT) == Grant(OUTSIDE, 40000, 600, 77)  # options


@pytest.mark.parametrize(
    "data",
    [
        b"",
        pcp_answer()[:-4],
        pcp_answer()[:-1],
        pcp_answer() + bytes(1100),
        pcp_answer()[:1] + b"\x01" + pcp_answer()[2:],
        bytes([2, 0x80]) + pcp_answer()[2:],
    ],
    ids=["empty", "short", "odd", "long", "a request", "another operation"],
)
def test_what_is_no_answer_of_pcp_is_ignored(data: bytes) -> None:
    assert pcp.parse_grant(data, NONCE, PORT) is None


def test_an_answer_of_pcp_to_another_request_is_ignored() -> None:
    assert pcp.parse_grant(pcp_answer(), bytes(12), PORT) is None
    assert pcp.parse_grant(pcp_answer(), NONCE, PORT + 1) is None
    assert pcp.parse_grant(pcp_answer(result=2), bytes(12), PORT) is None
    assert pcp.parse_released(pcp_answer(), bytes(12), PORT) is None
    assert pcp.parse_released(pcp_answer(lifetime=0), NONCE, PORT) is True
    assert pcp.parse_released(pcp_answer(result=2), NONCE, PORT) is False


@pytest.mark.parametrize(
    ("data", "failure"),
    [
        (pcp_answer(result=1), Failure.UNSUPPORTED),
        (pcp_answer(version=1), Failure.UNSUPPORTED),
        (bytes([0, 0x81, 0, 1]) + bytes(4), Failure.UNSUPPORTED),  # of a router with NAT-PMP alone
        (pcp_answer(result=2), Failure.REFUSED),
        (pcp_answer(result=11), Failure.TAKEN),
        (pcp_answer(lifetime=0), Failure.NONSENSE),
        (pcp_answer(port=0), Failure.NONSENSE),
        (pcp_answer(address=bytes(15) + b"\1"), Failure.NONSENSE),
    ],
)
def test_a_refusal_of_pcp_says_why(data: bytes, failure: Failure) -> None:
    with pytest.raises(MappingError) as raised:
        pcp.parse_grant(data, NONCE, PORT)
    assert raised.value.failure is failure


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "169.254.1.1"])
def test_an_external_address_that_nobody_can_have_is_no_grant(address: str) -> None:
    mapped = bytes(10) + b"\xff\xff" + IPv4Address(address).packed
    with pytest.raises(MappingError) as raised:
        pcp.parse_grant(pcp_answer(address=mapped), NONCE, PORT)
    assert raised.value.failure is Failure.NONSENSE


def test_a_lifetime_of_years_is_believed_for_a_day() -> None:
    grant = pcp.parse_grant(pcp_answer(lifetime=0xFFFFFFFF), NONCE, PORT)
    assert grant is not None
    assert grant.lifetime == 86_400


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.4.4", True), ("100.64.1.1", False), ("10.0.0.1", False), ("192.168.1.1", False)],
)
def test_an_address_behind_another_nat_is_not_public(address: str, public: bool) -> None:
    assert Mapping(IPv4Address(address), 1, By.PCP, 0).public is public


# NAT-PMP


def test_a_request_of_nat_pmp_is_laid_out_as_in_rfc_6886() -> None:
    assert natpmp.map_request(PORT, 40000, 1200).hex() == "0001000082a59c40000004b0"
    assert natpmp.map_request(PORT, 40000, 0).hex() == "0001000082a5000000000000"


def nat_pmp_mapped(result: int = 0, internal: int = PORT) -> bytes:
    return struct.pack("!BBHIHHI", 0, 0x81, result, 77, internal, 40000, 600)


def test_the_answers_of_nat_pmp() -> None:
    assert natpmp.parse_mapped(nat_pmp_mapped(), PORT) == natpmp.Mapped(40000, 600, 77)
    address = struct.pack("!BBHI4s", 0, 0x80, 0, 77, OUTSIDE.packed)
    assert natpmp.parse_address(address) == natpmp.ExternalAddress(OUTSIDE, 77)
    assert natpmp.parse_mapped(address, PORT) is None
    assert natpmp.parse_address(nat_pmp_mapped()) is None
    assert natpmp.parse_mapped(nat_pmp_mapped(internal=1), PORT) is None
    for end in range(16):
        assert natpmp.parse_mapped(nat_pmp_mapped()[:end], PORT) is None
    assert natpmp.parse_mapped(nat_pmp_mapped() + b"x", PORT) is None


@pytest.mark.parametrize(
    ("result", "failure"),
    [(1, Failure.UNSUPPORTED), (2, Failure.REFUSED), (4, Failure.REFUSED), (5, Failure.UNSUPPORTED)],
)
def test_a_refusal_of_nat_pmp_says_why(result: int, failure: Failure) -> None:
    for data in (nat_pmp_mapped(result), nat_pmp_mapped(result)[:8]):
        with pytest.raises(MappingError) as raised:
            natpmp.parse_mapped(data, PORT)
        assert (raised.value.failure, raised.value.code) == (failure, result)


# Both


_PARSERS: list[Callable[[bytes], object]] = [
    lambda data: pcp.parse_grant(data, NONCE, PORT),
    lambda data: pcp.parse_released(data, NONCE, PORT),
    lambda data: natpmp.parse_mapped(data, PORT),
    natpmp.parse_address,
    parse_announcement,
]


@given(st.binary(max_size=80) | st.binary(max_size=76).map(lambda data: pcp_answer()[:4] + data))
def test_arbitrary_datagrams_are_answers_or_ignored_or_refusals(data: bytes) -> None:
    for parse in _PARSERS:
        with contextlib.suppress(MappingError):
            parse(data)


def test_announcements_of_both_protocols() -> None:
    assert parse_announcement(struct.pack("!BBBBII12x", 2, 0x80, 0, 0, 0, 5)) == Announced(5)
    assert parse_announcement(struct.pack("!BBHI4s", 0, 0x80, 0, 5, OUTSIDE.packed)) == Announced(5, OUTSIDE)
    assert parse_announcement(struct.pack("!BBHI4s", 0, 0x80, 3, 5, OUTSIDE.packed)) is None
    assert parse_announcement(pcp_answer()) is None
    assert parse_announcement(natpmp.ADDRESS_REQUEST) is None


@pytest.mark.parametrize(
    ("epoch", "later", "fits"),
    [
        (1100, 100, True),
        (1095, 100, True),
        (999, 0, True),
        (0, 100, False),
        (1000, 100, False),
        (1300, 100, False),
    ],
)
def test_a_router_whose_clock_begins_anew_forgot_its_mappings(epoch: int, later: float, fits: bool) -> None:
    clock = Epoch()
    assert not clock.fits(epoch, 0)
    clock.hear(1000, 50)
    assert clock.fits(epoch, 50 + later) is fits
