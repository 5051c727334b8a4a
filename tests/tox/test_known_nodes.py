"""The file with the nodes of friends."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxproxy.system.state import StateFolder
from toxproxy.tox.known_nodes import FILE, KnownNode, KnownNodes, kept_port
from toxproxy.tox.relay_list import Relay

FRIEND, NODE = bytes(range(32)), bytes(range(1, 33))
RELAY = Relay(ip_address("2001:db8::2"), 443, FRIEND)
KNOWN = KnownNode(NODE, ((ip_address("192.0.2.1"), 33445), (ip_address("2001:db8::1"), 2)), (RELAY,))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries({}, optional={"node": JSON, "places": JSON, "relays": JSON}) | JSON


def test_there_and_back(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    known = KnownNodes(state)
    known.read()
    assert known.put(FRIEND, KNOWN)
    assert not known.put(FRIEND, KNOWN), "nothing is new"
    assert known.move(33445)
    assert not known.move(33445)
    known.write()
    again = KnownNodes(state)
    again.read()
    assert again.get(FRIEND) == KNOWN
    assert again.port == kept_port(state) == 33445
    assert again.drop(FRIEND)
    assert not again.drop(FRIEND)
    assert again.get(FRIEND) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | st.builds(lambda entry: json.dumps({FRIEND.hex(): entry}).encode(), ENTRY))
def test_a_file_that_is_damaged_says_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    known = KnownNodes(StateFolder(tmp_path))
    known.read()
    node = known.get(FRIEND)
    if node is not None:
        assert all(0 < port < 65536 for _, port in node.places)
        assert all(len(key) == 32 for key in (node.key, *(each.key for each in node.relays)))


def test_a_port_without_a_friend_is_not_worth_a_file(tmp_path: Path) -> None:
    assert not KnownNodes(StateFolder(tmp_path)).move(33445)


@pytest.mark.parametrize("port", [0, 65536, -1, "no", None, [], {}, 1e400])
def test_a_port_that_cannot_be(tmp_path: Path, port: object) -> None:
    (tmp_path / FILE).write_text(json.dumps({"port": port}))
    assert kept_port(StateFolder(tmp_path)) is None


@pytest.mark.parametrize(
    "places",
    [[["192.0.2.1", 0]], [["192.0.2.1", 65536]], [["example.org", 1]], [["192.0.2.1"]], "no", [3], None],
)
def test_an_address_that_cannot_be(tmp_path: Path, places: object) -> None:
    good = {"node": NODE.hex(), "places": [["192.0.2.1", 1]]}
    entries = {FRIEND.hex(): {"node": NODE.hex(), "places": places}, NODE.hex(): good, "no key": good}
    (tmp_path / FILE).write_text(json.dumps(entries))
    known = KnownNodes(StateFolder(tmp_path))
    known.read()
    assert known.get(FRIEND) is None
    assert known.get(NODE) is not None, "the others count"


@pytest.mark.parametrize(
    "relays", [[["192.0.2.1", 0, NODE.hex()]], [["192.0.2.1", 1, "AB"]], [["192.0.2.1", 1]], "no", [3], None]
)
def test_a_relay_that_cannot_be(tmp_path: Path, relays: object) -> None:
    entry = {"node": NODE.hex(), "places": [], "relays": relays}
    (tmp_path / FILE).write_text(json.dumps({FRIEND.hex(): entry}))
    known = KnownNodes(StateFolder(tmp_path))
    known.read()
    assert known.get(FRIEND) is None


def test_four_addresses_and_four_relays_are_read(tmp_path: Path) -> None:
    places = [["192.0.2.1", port] for port in range(1, 99)]
    entry = {"node": NODE.hex(), "places": places, "relays": [[*each, NODE.hex()] for each in places]}
    (tmp_path / FILE).write_text(json.dumps({FRIEND.hex(): entry}))
    known = KnownNodes(StateFolder(tmp_path))
    known.read()
    node = known.get(FRIEND)
    assert node is not None
    assert [port for _, port in node.places] == [1, 2, 3, 4]
    assert [each.port for each in node.relays] == [1, 2, 3, 4]
