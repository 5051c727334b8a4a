"""Clients that are revoked, blocked, or whose time is over; and what the record knows of each."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from toxproxy.admission import access as access_module
from toxproxy.admission.access import Access, Claim
from toxproxy.admission.clients import Reason
from toxproxy.admission.words import words
from toxproxy.config.settings import AccessSettings
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder

KEY, OTHER = b"\x2a" * 32, b"\x3b" * 32
SECRET = "correct horse battery staple"
RIGHT = b"toxproxy " + SECRET.encode()


class Clock:
    """The time of day for the record. A test moves it on."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    return clock


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def door(state: StateFolder, *allow: bytes, anyone: bool = False, secret: str | None = None) -> Access:
    return Access(AccessSettings(allow=frozenset(allow), anyone=anyone, secret=secret), state)


# Revoke


def test_a_revoked_client_is_forgotten_over_a_restart_too(state: StateFolder) -> None:
    access = door(state)
    access.allow(KEY)
    access.allow(OTHER)
    assert access.revoke(KEY) is Reason.COMMAND
    assert access.admitted() == door(state).admitted() == {OTHER}
    assert access.claim(KEY, b"toxproxy") is Claim.GREETING


def test_a_revoked_client_that_has_the_secret_can_come_back(state: StateFolder) -> None:
    access = door(state, secret=SECRET)
    access.admit(KEY, access.claim(KEY, RIGHT))
    assert access.revoke(KEY) is Reason.SECRET
    assert not access.admits(KEY)
    assert access.claim(KEY, RIGHT) is Claim.SECRET


def test_a_client_that_is_not_on_record_or_configured_is_not_revoked(state: StateFolder) -> None:
    access = door(state, OTHER)
    with pytest.raises(ValueError, match="this client is not on record"):
        access.revoke(KEY)
    with pytest.raises(
        ValueError, match=r"\[access\] allow of the configuration: remove it there, or block it"
    ):
        access.revoke(OTHER)
    assert access.admits(OTHER)


# Block


def test_a_blocked_client_is_shut_out_whatever_it_sends_and_whatever_the_settings(state: StateFolder) -> None:
    door(state).block(KEY)
    for access in (door(state), door(state, KEY), door(state, anyone=True), door(state, secret=SECRET)):
        assert not access.admits(KEY)
        assert access.admitted() == set()
        assert access.claim(KEY, b"toxproxy") is Claim.OTHER
        assert access.claim(KEY, RIGHT) is Claim.OTHER


def test_a_client_that_waited_does_not_wait_any_more_when_blocked(state: StateFolder) -> None:
    access = door(state)
    access.wait(KEY)
    access.block(KEY)
    assert access.waiting == ()


def test_allow_lets_a_blocked_client_in_again(state: StateFolder) -> None:
    access = door(state)
    access.allow(KEY, "laptop")
    access.block(KEY)
    assert access.name(KEY) == "laptop"
    access.allow(KEY)
    assert door(state).admits(KEY)
    assert door(state).name(KEY) == "laptop"


def test_blocked_and_expired_clients_neither_count_nor_give_way(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(access_module, "_MAX_RECORDS", 1)
    access = door(state, anyone=True)
    access.block(KEY)
    access.allow(OTHER, expires=int(clock.now) + 60)
    clock.now += 61
    for number in range(1, 4):
        assert access.admit(bytes([number]) * 32, Claim.ANYONE)
    assert access.admitted() == {b"\3" * 32}
    assert access.known.keys() == {KEY, OTHER, b"\3" * 32}
    assert access.claim(KEY, b"toxproxy") is access.claim(OTHER, b"toxproxy") is Claim.OTHER


# Time


def test_a_client_may_connect_until_its_time_is_over(state: StateFolder, clock: Clock) -> None:
    access = door(state, secret=SECRET)
    access.allow(KEY, expires=int(clock.now) + 3600)
    assert access.next_expiry == int(clock.now) + 3600
    clock.now += 3599
    assert access.admits(KEY)
    clock.now += 1
    assert not access.admits(KEY)
    assert not door(state, anyone=True).admits(KEY)
    assert access.next_expiry is None
    assert access.claim(KEY, RIGHT) is Claim.OTHER, "the secret does not give it more time"


def test_allow_again_ends_the_end(state: StateFolder, clock: Clock) -> None:
    access = door(state)
    access.allow(KEY, expires=int(clock.now) + 60)
    access.allow(KEY)
    clock.now += 61
    assert access.admits(KEY)


def test_a_time_that_is_over_already_is_an_error(state: StateFolder, clock: Clock) -> None:
    access = door(state)
    with pytest.raises(ValueError, match="is over already"):
        access.allow(KEY, expires=int(clock.now))
    assert access.known == {}


def test_a_configured_client_has_no_end(state: StateFolder, clock: Clock) -> None:
    access = door(state, KEY)
    access.allow(KEY, expires=int(clock.now) + 60)
    clock.now += 61
    assert access.admits(KEY)
    assert not door(state).admits(KEY)


# Names


def test_a_client_is_found_by_its_name_and_by_how_its_key_begins(state: StateFolder) -> None:
    access = door(state, OTHER)
    access.allow(KEY, "laptop")
    access.wait(b"\x4c" * 32)
    assert access.find("laptop") == access.find("2A2A") == access.find("2a2a2a") == KEY
    assert access.find("3b3b") == OTHER
    assert access.find("4C4C4C4C") == b"\x4c" * 32
    assert access.find(words(KEY)) == KEY
    assert access.find(f"  {words(bytes([0x4C]) * 32).upper().replace(' ', '   ')} ") == b"\x4c" * 32


@pytest.mark.parametrize("text", ["", "2A2", "desktop", "ZZZZ", "FFFF", "lap", "acid tower quick"])
def test_what_nobody_is_called_is_an_error(state: StateFolder, text: str) -> None:
    access = door(state)
    access.allow(KEY, "laptop")
    with pytest.raises(ValueError, match="no client on record, and none that waits, is called"):
        access.find(text)


def test_a_beginning_that_several_keys_share_is_an_error(state: StateFolder) -> None:
    access = door(state, KEY, KEY[:31] + b"\x01")
    with pytest.raises(ValueError, match="several clients are called '2A2A'"):
        access.find("2A2A")


@pytest.mark.parametrize("name", ["", " laptop", "lap\ntop", "x" * 65, "\x1b[2J"])
def test_a_name_that_cannot_be_is_an_error(state: StateFolder, name: str) -> None:
    access = door(state)
    with pytest.raises(ValueError, match="expected a name of 1 to 64 printable characters"):
        access.allow(KEY, name)
    assert not access.admits(KEY)


def test_two_clients_cannot_have_one_name(state: StateFolder) -> None:
    access = door(state)
    access.allow(KEY, "laptop")
    access.allow(KEY, "laptop")
    with pytest.raises(ValueError, match="another client is called 'laptop'"):
        access.allow(OTHER, "laptop")
    assert not access.admits(OTHER)


# When it was there


def test_when_a_client_was_there_is_written_down_with_the_next_change(
    state: StateFolder, clock: Clock
) -> None:
    access = door(state)
    access.allow(KEY)
    access.seen(KEY)
    access.seen(OTHER)  # it is not on record
    record = access.known[KEY]
    assert record is not None
    assert record.seen_at == int(clock.now)
    assert "seen_at" not in (state.path / "clients.json").read_text()
    access.save()
    assert json.loads((state.path / "clients.json").read_bytes()) == {
        KEY.hex().upper(): {"by": "command", "seen_at": int(clock.now)}
    }
    before = (state.path / "clients.json").stat().st_ino
    access.save()
    assert (state.path / "clients.json").stat().st_ino == before, "nothing changed, so nothing is written"


@pytest.mark.parametrize(
    "entry",
    [
        {"by": "command", "name": 5},
        {"by": "command", "name": "a\nb"},
        {"by": "command", "expires": "tomorrow"},
        {"by": "command", "expires": True},
        {"by": "command", "expires": 1.5},
        {"by": "command", "seen_at": []},
    ],
)
def test_a_field_that_cannot_be_read_lets_nobody_in(state: StateFolder, entry: object) -> None:
    state.write("clients.json", json.dumps({KEY.hex().upper(): entry}).encode())
    with pytest.raises(StateError, match=r"clients\.json is damaged \(expected "):
        door(state)
