"""When a mapper asks again before its time: announcements and changes of the network."""

from __future__ import annotations

import time
from ipaddress import IPv4Address

import pytest

from toxproxy.mapping.announcements import Announced
from toxproxy.mapping.grant import By, Grant
from toxproxy.mapping.mapper import Mapper
from toxproxy.mapping.router import Router
from toxproxy.system.gateway import Gateway

ROUTER, OUTSIDE = IPv4Address("192.168.1.1"), IPv4Address("8.8.4.4")
PORT = 33445


@pytest.fixture
async def mapper() -> Mapper:
    """One that has a mapping since now, of a router that was started 1000 seconds ago. It asks nobody."""
    mapper = Mapper(PORT)
    mapper._router = Router(Gateway(ROUTER, IPv4Address("192.168.1.2")), PORT, 1200)
    mapper._granted(By.PCP, Grant(OUTSIDE, PORT, 1200, 1000))
    return mapper


@pytest.mark.parametrize(
    ("sender", "announced", "follows"),
    [
        (str(ROUTER), Announced(0), True),
        (str(ROUTER), Announced(0, OUTSIDE), True),
        (str(ROUTER), Announced(1000), False),
        (str(ROUTER), Announced(1000, OUTSIDE), False),
        (str(ROUTER), Announced(1000, IPv4Address("8.8.8.8")), True),
        ("192.168.1.3", Announced(0), False),
    ],
    ids=["restarted", "restarted too", "as before", "as before too", "another address", "another host"],
)
async def test_an_announcement_is_followed_if_the_router_forgot_the_mapping(
    mapper: Mapper, sender: str, announced: Announced, follows: bool
) -> None:
    mapper._announced(sender, announced)
    assert mapper._hint.is_set() is follows


async def test_a_flood_of_announcements_is_followed_ten_times_a_minute(mapper: Mapper) -> None:
    followed = 0
    for _ in range(1000):
        mapper._announced(str(ROUTER), Announced(0))
        followed += mapper._hint.is_set()
        mapper._hint.clear()
    assert followed == 10


async def test_a_mapping_says_when_it_expires(mapper: Mapper) -> None:
    assert mapper.mapping is not None
    assert mapper.mapping.public
    assert 1190 < mapper.mapping.expires - time.monotonic() <= 1200


async def test_the_owner_is_told_of_another_address_or_port_and_of_nothing_else() -> None:
    told: list[object] = []
    mapper = Mapper(PORT, changed=lambda: told.append(mapper.mapping))
    for grant in (Grant(OUTSIDE, PORT, 100), Grant(OUTSIDE, PORT, 100), Grant(OUTSIDE, PORT + 1, 100)):
        mapper._granted(By.UPNP, grant)
    mapper._set(None)
    assert [getattr(mapping, "port", None) for mapping in told] == [PORT, PORT + 1, None]
