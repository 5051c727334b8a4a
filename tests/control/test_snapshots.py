"""Snapshots as JSON, and back."""

from __future__ import annotations

import dataclasses
import json
import typing
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.control.examples import CLIENT, LINK, PEER, SERVER
from toxproxy.control import snapshots
from toxproxy.control.snapshots import (
    ClientSnapshot,
    PeerState,
    PongSnapshot,
    Snapshot,
    StreamSnapshot,
    decoded,
    encoded,
)

KINDS = [
    each
    for each in vars(snapshots).values()
    if isinstance(each, type) and is_dataclass(each) and each.__module__ == snapshots.__name__
]
UNITS = ("_s", "_ms", "_unix_s", "_share", "_bytes", "_per_s", "_packets")
# Numbers that count things by their name, or name one thing.
COUNTS = {
    "version", "process_id", "nodes_asked", "udp_port", "tcp_port", "resumed", "streams", "waiting",
    "connections", "accepted", "refused", "friend_requests", "admitted", "line",
}  # fmt: skip

FIELDS = sorted({field.name for kind in KINDS for field in fields(kind)})

finite = st.floats(allow_nan=False, allow_infinity=False)
st.register_type_strategy(float, finite)


def through_json(value: object) -> Any:
    return json.loads(json.dumps(encoded(value), allow_nan=False))


@pytest.mark.parametrize("snapshot", [CLIENT, SERVER])
def test_a_snapshot_survives_json(snapshot: Snapshot) -> None:
    assert decoded(Snapshot, through_json(snapshot)) == snapshot


@given(st.one_of(*(st.builds(kind) for kind in (Snapshot, ClientSnapshot, StreamSnapshot, PongSnapshot))))
def test_whatever_is_in_it_survives_json(value: Any) -> None:
    assert decoded(type(value), through_json(value)) == value


def test_states_are_words_in_json() -> None:
    told = through_json(PEER)
    assert (told["state"], told["path"], told["link"]["phase"]) == ("connected", "direct", "cruise")
    assert through_json(CLIENT)["version"] == 1


def test_a_field_of_a_later_version_is_ignored() -> None:
    told = through_json(CLIENT)
    told["weather"] = "fine"
    told["peers"][0]["link"]["colour"] = [1]
    assert decoded(Snapshot, told) == CLIENT


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", "asleep"),
        ("state", None),
        ("state", []),
        ("streams", "3"),
        ("streams", 3.5),
        ("streams", True),
        ("met", 1),
        ("key", 5),
        ("name", 5),
        ("traffic", None),
        ("traffic", 5),
        ("link", "fast"),
    ],
)
def test_a_value_of_another_kind_is_an_error(field: str, value: object) -> None:
    told = through_json(CLIENT)
    told["peers"][0][field] = value
    with pytest.raises(ValueError, match=r".+"):
        decoded(Snapshot, told)


@pytest.mark.parametrize("data", [None, [], 5, "text", {}])
def test_what_is_no_snapshot_is_an_error(data: object) -> None:
    with pytest.raises(ValueError, match="Snapshot"):
        decoded(Snapshot, data)


def test_a_whole_number_will_do_for_a_float() -> None:
    told = through_json(PEER)
    told["since_unix_s"] = 5
    assert decoded(type(PEER), told) == replace(PEER, since_unix_s=5)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_frozen_and_its_numbers_have_units(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
    hints = typing.get_type_hints(kind)
    for field in fields(kind):
        number = {int, float} & {hints[field.name], *typing.get_args(hints[field.name])}
        if number and field.name not in COUNTS:
            assert field.name.endswith(UNITS), f"{kind.__name__}.{field.name}"


def test_a_snapshot_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PEER.state = PeerState.OFFLINE  # type: ignore[misc]
    assert replace(LINK) == LINK


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=20),
    max_leaves=30,
)


@given(json_values, st.sampled_from(FIELDS), json_values)
def test_arbitrary_json_is_a_snapshot_or_a_value_error(data: object, field: str, value: object) -> None:
    broken = through_json(CLIENT)
    broken["peers"][0][field] = value
    broken["end"][field] = value
    for each in (data, broken, {**through_json(CLIENT), field: value}):
        with suppress(ValueError):
            assert isinstance(decoded(Snapshot, each), Snapshot)
