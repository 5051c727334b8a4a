"""Clients that the configuration has in a section [client NAME]."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from toxproxy.admission.access import Access, Claim
from toxproxy.config.settings import AccessSettings, ClientSection
from toxproxy.system.state import StateFolder

KEY, OTHER = b"\x2a" * 32, b"\x3b" * 32
NOW = 1_800_000_000


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [float(NOW)]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    return clock


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def door(state: StateFolder, *, expires: int | None = None, anyone: bool = False) -> Access:
    section = ClientSection(name="laptop", key=KEY, expires=expires)
    return Access(AccessSettings(anyone=anyone), state, (section,))


def test_its_key_is_let_in_and_called_by_the_name(state: StateFolder) -> None:
    access = door(state)
    assert access.admits(KEY)
    assert not access.admits(OTHER)
    assert access.admitted() == {KEY}
    assert access.known == {KEY: None}
    assert access.name(KEY) == "laptop"
    assert access.called(KEY) == f"laptop ({KEY.hex().upper()[:12]})"
    assert access.find("laptop") == KEY
    assert access.claim(KEY, b"anything") is Claim.ADMITTED


@pytest.mark.parametrize("anyone", [False, True])
def test_its_time_ends_and_nothing_lets_it_in_after_that(
    state: StateFolder, now: list[float], anyone: bool
) -> None:
    access = door(state, expires=NOW + 10, anyone=anyone)
    assert access.next_expiry == NOW + 10
    access.allow(KEY)  # by command, which the section outlasts
    now[0] += 10
    assert not access.admits(KEY)
    assert access.over(KEY)
    assert access.claim(KEY, b"toxproxy") is Claim.OTHER
    assert access.next_expiry is None
    with pytest.raises(ValueError, match=r"its time is over by \[client laptop\] expires: change it there"):
        access.allow(KEY)
    access.change(AccessSettings(), (ClientSection(name="laptop", key=KEY, expires=NOW + 20),))
    assert access.admits(KEY)
    assert access.next_expiry == NOW + 20


def test_blocking_is_stronger_and_revoking_says_what_to_do(state: StateFolder) -> None:
    access = door(state)
    with pytest.raises(
        ValueError, match=r"this client is in \[client laptop\] of the configuration: remove it"
    ):
        access.revoke(KEY)
    access.block(KEY)
    assert not access.admits(KEY)
    assert not door(state).admits(KEY)
    access.allow(KEY)
    assert access.admits(KEY)


def test_a_section_that_is_gone_leaves_nothing_behind(state: StateFolder) -> None:
    access = door(state)
    access.change(AccessSettings(), ())
    assert not access.admits(KEY)
    assert access.name(KEY) is None


def test_no_other_client_gets_its_name(state: StateFolder) -> None:
    access = door(state)
    with pytest.raises(ValueError, match="another client is called 'laptop'"):
        access.allow(OTHER, "laptop")
