"""Who may be a friend, and what of it is remembered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxproxy import access as access_module
from toxproxy.access import Access, request_message
from toxproxy.config import AccessSettings
from toxproxy.errors import ConfigError, StateError
from toxproxy.state import StateFolder

KEY, OTHER = b"\xaa" * 32, b"\xbb" * 32


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def door(state: StateFolder, *allow: bytes, anyone: bool = False, secret: str | None = None) -> Access:
    return Access(AccessSettings(allow=frozenset(allow), anyone=anyone, secret=secret), state)


def test_nobody_is_let_in_by_default(state: StateFolder) -> None:
    access = door(state)
    assert not access.judge(KEY, b"toxproxy")
    assert not access.judge(KEY, b"toxproxy guess")
    assert access.admitted() == set()
    assert access.waiting == (KEY,)


def test_a_configured_key_is_let_in_only_while_it_is_configured(state: StateFolder) -> None:
    access = door(state, KEY)
    assert access.judge(KEY, b"whatever")
    assert access.admitted() == {KEY}
    assert not door(state).admits(KEY)


def test_a_key_allowed_by_command_is_let_in_for_good(state: StateFolder) -> None:
    access = door(state)
    assert not access.judge(KEY, b"toxproxy")
    access.allow(KEY)
    assert access.waiting == ()
    assert access.judge(KEY, b"toxproxy")
    assert door(state).admitted() == {KEY}


def test_the_right_secret_lets_in_until_it_changes(state: StateFolder) -> None:
    access = door(state, secret="open sesame")
    assert not access.judge(OTHER, b"toxproxy open")
    assert not access.judge(OTHER, b"toxproxy")
    assert access.judge(KEY, request_message("open sesame"))
    assert door(state, secret="open sesame").admitted() == {KEY}
    assert door(state, secret="another").admitted() == set()
    assert door(state).admitted() == set()


def test_the_secret_itself_is_not_written_down(state: StateFolder) -> None:
    access = door(state, secret="sesame")
    access.judge(KEY, b"toxproxy sesame")
    access.judge(OTHER, b"toxproxy sesame")
    entries = json.loads(state.read("clients.json") or b"")
    assert "sesame" not in str(entries)
    assert entries[KEY.hex().upper()]["secret"] != entries[OTHER.hex().upper()]["secret"]


def test_anyone_comes_and_goes_with_the_setting(state: StateFolder) -> None:
    assert door(state, anyone=True).judge(KEY, b"toxproxy")
    assert door(state, anyone=True).admitted() == {KEY}
    assert door(state).admitted() == set()


def test_anyone_means_any_client_not_any_stranger_with_a_messenger(state: StateFolder) -> None:
    access = door(state, anyone=True)
    assert not access.judge(KEY, b"Hi, this is Bob")
    assert not access.judge(KEY, b"toxproxyish")
    assert access.waiting == ()


def test_a_command_outlives_the_other_reasons(state: StateFolder) -> None:
    access = door(state, anyone=True)
    access.judge(KEY, b"toxproxy")
    access.allow(KEY)
    assert door(state).admitted() == {KEY}


def test_a_command_given_without_the_configuration_forgets_nobody(state: StateFolder) -> None:
    door(state, secret="sesame").judge(KEY, b"toxproxy sesame")
    door(state).allow(OTHER)
    assert door(state, secret="sesame").admitted() == {KEY, OTHER}


def test_recorded_strangers_have_a_limit_and_commands_do_not(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "_RECORDS_MOST", 2)
    access = door(state, anyone=True)
    assert [access.judge(bytes([n]) * 32, b"toxproxy") for n in range(3)] == [True, True, False]
    access.allow(KEY)
    assert access.admits(KEY)


def test_records_that_no_longer_hold_make_room(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_RECORDS_MOST", 1)
    assert door(state, secret="old").judge(KEY, b"toxproxy old")
    assert door(state, secret="new").judge(OTHER, b"toxproxy new")
    assert list(json.loads(state.read("clients.json") or b"")) == [OTHER.hex().upper()]


def test_the_waiting_are_few_and_the_newest_are_last(state: StateFolder) -> None:
    access = door(state)
    keys = [bytes([n]) * 32 for n in range(70)]
    for key in keys:
        access.judge(key, b"toxproxy")
    access.judge(keys[10], b"toxproxy")
    assert access.waiting == (*keys[6:10], *keys[11:], keys[10])


def test_an_admission_that_cannot_be_recorded_is_none(state: StateFolder) -> None:
    access = door(state, anyone=True)
    (state.path / "clients.json").mkdir()
    with pytest.raises(StateError):
        access.judge(KEY, b"toxproxy")
    assert not access.admits(KEY)


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"[" * 5000,
    b'{"AA": {"by": "command"}}',
    b'{"%s": "command"}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": "magic"}}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": "secret"}}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": "secret", "secret": "short"}}' % KEY.hex().upper().encode(),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_and_left_alone(state: StateFolder, content: bytes) -> None:
    state.write("clients.json", content)
    with pytest.raises(StateError, match=r"clients\.json is damaged .*: mend it, or remove it"):
        door(state, anyone=True)
    assert state.read("clients.json") == content


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.recursive(
        st.none() | st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_content_of_the_file_raises_anything_else(state: StateFolder, content: object) -> None:
    (state.path / "clients.json").write_text(json.dumps(content))
    try:
        assert door(state).admitted() == set()
    except StateError:
        assert content != {}


def test_the_request_fits_tox_or_says_why_not() -> None:
    assert request_message(None) == b"toxproxy"
    assert request_message("zwölf") == "toxproxy zwölf".encode()
    assert len(request_message("x" * 912)) == 921
    for secret in ("", "x" * 913, "ö" * 457):
        with pytest.raises(ConfigError, match="expected 1 to 912 bytes"):
            request_message(secret)
