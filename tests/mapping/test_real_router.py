"""Mappings by a real router, miniupnpd, in a home of their own (`tests.mapping.world`)."""

from __future__ import annotations

from tests.mapping.world import PORT, needs_router, outcome

pytestmark = needs_router

_MAPPED = ["11.0.0.1", PORT, "PCP", True]
_TOLD = {  # by `toxproxy status --json`
    "state": "mapped",
    "protocol": "PCP",
    "external_address": "11.0.0.1",
    "external_port": PORT,
    "public": True,
    "failure": None,
}
_NEIGHBOURS = f"{PORT} dnat ip to 192.168.77.3:{PORT}"


async def test_a_datagram_from_outside_arrives_and_the_mapping_is_given_back_by_each_protocol() -> None:
    assert await outcome("each") == {
        name: ["11.0.0.1", PORT, name, True, 600, True, []] for name in ("PCP", "NAT-PMP", "UPnP")
    }


async def test_a_port_that_is_a_neighbours_stays_the_neighbours() -> None:
    """With each protocol another port is got; both are mapped then; the neighbour's is left at the end."""
    assert await outcome("taken") == {name: [True, 2, _NEIGHBOURS] for name in ("PCP", "NAT-PMP", "UPnP")}


async def test_a_mapping_is_renewed_before_its_lifetime_ends() -> None:
    found = await outcome("kept")
    assert found["first"] == found["later"] == _MAPPED
    assert found["through"]
    assert found["asked"] >= 2
    assert found["left"] == []


async def test_a_router_that_was_restarted_is_asked_again_at_once() -> None:
    assert await outcome("restarted") == {"forgotten": [], "through": True, "left": []}


async def test_without_a_gateway_there_is_no_mapping_and_with_another_address_a_new_one() -> None:
    found = await outcome("moved")
    first, none, second = found["changes"]
    assert first == _MAPPED
    assert none is None
    assert second[0] == "11.0.0.1"
    assert found["progress"] == ["no_router", "mapped"]
    assert found["leads"] == [f"192.168.77.3:{PORT}"]


async def test_a_server_says_in_one_line_what_it_got_and_gives_it_back_on_each_signal() -> None:
    """From outside 50 datagrams reach its socket, and none without a mapping."""
    found = await outcome("program")
    for name in ("asked", "interrupted"):
        line = f" leads its UDP port 11.0.0.1:{PORT} here, by PCP"
        assert found[name] == {
            "held": 1,
            "reached": True,
            "status": 0,
            "left": [],
            "lines": [line],
            "told": _TOLD,
            "asked": True,
        }
    assert found["private"] == {
        "held": 0,
        "reached": False,
        "status": 0,
        "left": [],
        "lines": [],
        "told": None,
        "asked": False,
    }
