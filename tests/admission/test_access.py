"""Who is let in, and what is recorded of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toxproxy.admission import access as access_module
from toxproxy.admission.access import Access, Claim, request_message
from toxproxy.config.settings import AccessSettings
from toxproxy.errors import ConfigError, StateError
from toxproxy.system.state import StateFolder

KEY, OTHER = b"\x2a" * 32, b"\x3b" * 32
IMPOSSIBLE = b"\x2a" * 31 + b"\xaa"  # KEY with the bit that Curve25519 ignores


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def door(state: StateFolder, *allow: bytes, anyone: bool = False, secret: str | None = None) -> Access:
    return Access(AccessSettings(allow=frozenset(allow), anyone=anyone, secret=secret), state)


def judge(access: Access, key: bytes, message: bytes) -> bool:
    """Whether a friend request lets its sender in. Requests are not limited in number here."""
    claim = access.claim(key, message)
    if claim in (Claim.SECRET, Claim.ANYONE):
        return access.admit(key, claim)
    if claim in (Claim.GREETING, Claim.GUESS):
        access.wait(key)
    return claim is Claim.ADMITTED


def test_nobody_is_let_in_by_default(state: StateFolder) -> None:
    access = door(state)
    assert not judge(access, KEY, b"toxproxy")
    assert not judge(access, KEY, b"toxproxy guess")
    assert access.admitted() == set()
    assert access.waiting == (KEY,)


def test_a_configured_key_is_let_in_only_while_it_is_configured(state: StateFolder) -> None:
    access = door(state, KEY)
    assert judge(access, KEY, b"whatever")
    assert access.admitted() == {KEY}
    assert not door(state).admits(KEY)


def test_a_key_allowed_by_command_is_let_in_for_good(state: StateFolder) -> None:
    access = door(state)
    assert not judge(access, KEY, b"toxproxy")
    access.allow(KEY)
    assert access.waiting == ()
    assert judge(access, KEY, b"toxproxy")
    assert door(state).admitted() == {KEY}


def test_the_right_secret_lets_in_until_it_changes(state: StateFolder) -> None:
    access = door(state, secret="open sesame")
    assert not judge(access, OTHER, b"toxproxy open")
    assert not judge(access, OTHER, b"toxproxy")
    assert judge(access, KEY, request_message("open sesame"))
    assert door(state, secret="open sesame").admitted() == {KEY}
    assert door(state, secret="another").admitted() == set()
    assert door(state).admitted() == set()


def test_other_settings_decide_at_once_and_impossible_ones_change_nothing(state: StateFolder) -> None:
    access = door(state, secret="open sesame")
    assert judge(access, KEY, request_message("open sesame"))
    with pytest.raises(ConfigError):
        access.change(AccessSettings(allow=frozenset({OTHER}), secret="x" * 1000))
    assert access.admitted() == {KEY}
    access.change(AccessSettings(allow=frozenset({OTHER}), secret="another"))
    assert access.admitted() == {OTHER}
    access.change(AccessSettings(secret="open sesame"))
    assert access.admitted() == {KEY}


def test_the_secret_itself_is_not_written_down(state: StateFolder) -> None:
    access = door(state, secret="sesame")
    judge(access, KEY, b"toxproxy sesame")
    judge(access, OTHER, b"toxproxy sesame")
    entries = json.loads(state.read("clients.json") or b"")
    assert "sesame" not in str(entries)
    assert entries[KEY.hex().upper()]["secret"] != entries[OTHER.hex().upper()]["secret"]


def test_anyone_comes_and_goes_with_the_setting(state: StateFolder) -> None:
    assert judge(door(state, anyone=True), KEY, b"toxproxy")
    assert door(state, anyone=True).admitted() == {KEY}
    assert door(state).admitted() == set()


def test_anyone_means_every_client_but_no_other_tox_user(state: StateFolder) -> None:
    access = door(state, anyone=True)
    assert not judge(access, KEY, b"Hi, this is Bob")
    assert not judge(access, KEY, b"toxproxyish")
    assert access.waiting == ()


def test_an_allow_command_outlives_the_other_reasons(state: StateFolder) -> None:
    access = door(state, anyone=True)
    judge(access, KEY, b"toxproxy")
    access.allow(KEY)
    assert door(state).admitted() == {KEY}


def test_an_allow_command_without_the_configuration_removes_nobody(state: StateFolder) -> None:
    judge(door(state, secret="sesame"), KEY, b"toxproxy sesame")
    door(state).allow(OTHER)
    assert door(state, secret="sesame").admitted() == {KEY, OTHER}


@pytest.mark.parametrize("message", [b"toxproxy", b"toxproxy open sesame"])
def test_a_key_that_tox_does_not_accept_is_neither_let_in_nor_recorded(
    state: StateFolder, message: bytes
) -> None:
    access = door(state, anyone=True, secret="open sesame")
    assert access.claim(IMPOSSIBLE, message) is Claim.OTHER
    with pytest.raises(ValueError, match="cannot be a Tox key"):
        access.allow(IMPOSSIBLE)
    assert state.read("clients.json") is None
    assert access.waiting == ()


def test_a_recorded_key_that_tox_does_not_accept_is_ignored_with_a_warning(
    state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    entries = {key.hex().upper(): {"by": "command"} for key in (IMPOSSIBLE, KEY)}
    state.write("clients.json", json.dumps(entries).encode())
    access = door(state)
    assert access.admitted() == {KEY}
    access.allow(OTHER)
    assert caplog.messages == [
        f"{state.path}/clients.json: 2A2A2A2A2A2A cannot be a Tox key; it is not let in"
    ]
    assert IMPOSSIBLE.hex().upper() not in json.loads(state.read("clients.json") or b"")


def test_records_of_a_later_version_are_kept_and_let_nobody_in(
    state: StateFolder, caplog: pytest.LogCaptureFixture
) -> None:
    later = {
        KEY.hex().upper(): {"by": "invitation", "expires": "2030-01-01"},
        OTHER.hex().upper(): {"by": "command", "name": "laptop"},
    }
    state.write("clients.json", json.dumps(later).encode())
    access = door(state, anyone=True)
    assert access.admitted() == {OTHER}
    assert "2A2A2A2A2A2A was let in for a reason that this version does not know" in caplog.messages[0]
    assert judge(access, b"\x01" * 32, b"toxproxy")
    entries = json.loads(state.read("clients.json") or b"")
    assert {key: entries[key] for key in later} == later
    assert len(caplog.messages) == 1


def test_a_key_deleted_by_hand_does_not_come_back(state: StateFolder) -> None:
    access = door(state, anyone=True, secret="open sesame")
    for change in (
        lambda: access.allow(OTHER),
        lambda: judge(access, b"\x01" * 32, b"toxproxy"),
        lambda: judge(access, b"\x02" * 32, b"toxproxy open sesame"),
    ):
        access.allow(KEY)
        entries = json.loads(state.read("clients.json") or b"")
        del entries[KEY.hex().upper()]
        state.write("clients.json", json.dumps(entries).encode())
        change()
        assert not access.admits(KEY)
        assert KEY.hex().upper() not in json.loads(state.read("clients.json") or b"")


def test_a_file_damaged_while_the_server_runs_is_not_overwritten(state: StateFolder) -> None:
    access = door(state)
    access.allow(KEY)
    state.write("clients.json", b"{")
    with pytest.raises(StateError, match="is damaged"):
        access.allow(OTHER)
    assert state.read("clients.json") == b"{"
    assert access.admitted() == {KEY}


def test_recorded_strangers_have_a_limit_and_commands_do_not(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 2)
    access = door(state, anyone=True)
    keys = [bytes([n]) * 32 for n in range(4)]
    assert judge(access, keys[0], b"toxproxy")
    access.met(keys[0])
    assert [judge(access, key, b"toxproxy") for key in keys[1:]] == [True] * 3
    assert access.admitted() == {keys[0], keys[3]}  # the one who never connected made room
    access.met(keys[3])
    assert not judge(access, OTHER, b"toxproxy")
    access.allow(KEY)
    assert access.admits(KEY)


def test_the_secret_finds_room_among_strangers(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 2)
    access = door(state, anyone=True, secret="open sesame")
    for key in (KEY, OTHER):
        assert judge(access, key, b"toxproxy")
        access.met(key)
    assert judge(access, b"\x01" * 32, b"toxproxy open sesame")
    assert access.admitted() == {OTHER, b"\x01" * 32}
    assert not judge(access, KEY, b"toxproxy")  # nobody who has been connected makes room for a stranger


def test_a_client_that_has_the_secret_and_was_connected_makes_no_room(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 1)
    access = door(state, secret="open sesame")
    assert judge(access, KEY, b"toxproxy open sesame")
    access.met(KEY)
    assert not judge(access, OTHER, b"toxproxy open sesame")
    assert door(state, secret="open sesame").admitted() == {KEY}


def test_who_was_connected_is_remembered_over_a_restart(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 1)
    access = door(state, anyone=True)
    assert judge(access, KEY, b"toxproxy")
    access.met(KEY)
    assert not judge(door(state, anyone=True), OTHER, b"toxproxy")


def test_records_whose_reason_is_gone_make_room(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 1)
    assert judge(door(state, secret="old"), KEY, b"toxproxy old")
    assert judge(door(state, secret="new"), OTHER, b"toxproxy new")
    assert list(json.loads(state.read("clients.json") or b"")) == [OTHER.hex().upper()]


def test_the_waiting_are_few_and_the_newest_are_last(state: StateFolder) -> None:
    access = door(state)
    keys = [bytes([n]) * 32 for n in range(70)]
    for key in keys:
        judge(access, key, b"toxproxy")
    judge(access, keys[10], b"toxproxy")
    assert access.waiting == (*keys[6:10], *keys[11:], keys[10])


def test_a_client_that_cannot_be_recorded_is_not_let_in(state: StateFolder) -> None:
    access = door(state, anyone=True)
    (state.path / "clients.json").mkdir()
    with pytest.raises(StateError):
        judge(access, KEY, b"toxproxy")
    assert not access.admits(KEY)


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"\xff",
    b"[" * 5000,
    b'{"AA": {"by": "command"}}',
    b'{"%s": "command"}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": 1}}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": "secret"}}' % KEY.hex().upper().encode(),
    b'{"%s": {"by": "secret", "secret": "short"}}' % KEY.hex().upper().encode(),
]


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_file_is_named_and_not_overwritten(state: StateFolder, content: bytes) -> None:
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
def test_arbitrary_json_in_the_file_is_read_or_a_state_error(state: StateFolder, content: object) -> None:
    (state.path / "clients.json").write_text(json.dumps(content))
    try:
        assert door(state).admitted() == set()
    except StateError:
        assert content != {}


def test_a_secret_that_does_not_fit_a_friend_request_is_an_error() -> None:
    assert request_message(None) == b"toxproxy"
    assert request_message("zwölf") == "toxproxy zwölf".encode()
    assert len(request_message("x" * 912)) == 921
    for secret in ("", "x" * 913, "ö" * 457):
        with pytest.raises(ConfigError, match="expected 1 to 912 bytes"):
            request_message(secret)
