"""Orders about clients to a running server: at once, and kept over a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.asking import request
from toxproxy import config
from toxproxy.admission.words import words
from toxproxy.app.server import Server
from toxproxy.control.messages import ControlError, ErrorCode

GREETING = b"toxproxy"
SECRET = "correct horse battery staple"


def key(number: int) -> bytes:
    return number.to_bytes(31, "big") + b"\x01"


def name(number: int) -> str:
    return key(number).hex().upper()


def server(folder: Path, text: str = "") -> Server:
    return Server(config.parse(f"{ALONE}{text}", "server.ini"), folder)


async def dismissed(end: Server, client: bytes) -> None:
    """Wait until a client is not a friend any more."""
    async with asyncio.timeout(10):
        while client in end.node.friends:
            await asyncio.sleep(0.01)


async def test_who_waits_is_told_with_words_and_can_be_let_in_by_a_beginning(tmp_path: Path) -> None:
    async with server(tmp_path) as end:
        for number in (1, 2):
            end.friend_request(key(number) if number == 1 else b"\x77" + key(2)[1:], GREETING)
        told = await request(tmp_path, "waiting")
        assert told["waiting"][0] == {"key": name(1), "words": words(key(1))}
        answer = await request(tmp_path, "allow", key="7700")
        assert answer["key"].startswith("7700")
        assert len((await request(tmp_path, "waiting"))["waiting"]) == 1
        assert len(end.node.friends) == 1


async def test_a_client_that_is_ignored_waits_again_once_it_asks_again(tmp_path: Path) -> None:
    async with server(tmp_path) as end:
        end.friend_request(key(1), GREETING)
        assert await request(tmp_path, "ignore", key=name(1)) == {"key": name(1)}
        assert await request(tmp_path, "waiting") == {"waiting": []}
        with pytest.raises(ControlError, match="does not wait"):
            await request(tmp_path, "ignore", key=name(1))
        end.friend_request(key(1), GREETING)
        assert len((await request(tmp_path, "waiting"))["waiting"]) == 1


async def test_a_revoked_client_is_no_friend_any_more_nor_after_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with server(tmp_path) as end:
        await request(tmp_path, "allow", key=name(1), name="laptop")
        assert await request(tmp_path, "revoke", key="laptop") == {"key": name(1), "was": "command"}
        await dismissed(end, key(1))
    assert f"client laptop ({name(1)[:12]}) is allowed" in caplog.text
    assert f"client laptop ({name(1)[:12]}) is revoked" in caplog.text
    async with server(tmp_path) as end:
        assert end.node.friends == {}


async def test_a_blocked_client_stays_out_with_the_secret_and_with_allow(tmp_path: Path) -> None:
    text = f"[access]\nsecret = {SECRET}\nallow = {name(2)}\n"
    async with server(tmp_path, text) as end:
        end.friend_request(key(1), GREETING + b" " + SECRET.encode())
        assert set(end.node.friends) == {key(1), key(2)}
        for number in (1, 2):
            await request(tmp_path, "block", key=name(number))
            await dismissed(end, key(number))
        end.friend_request(key(1), GREETING + b" " + SECRET.encode())
        assert end.node.friends == {}
        assert end.access.waiting == ()
    async with server(tmp_path, text) as end:
        assert end.node.friends == {}
        await request(tmp_path, "allow", key=name(2))
        assert set(end.node.friends) == {key(2)}


async def test_a_client_whose_time_is_over_is_sent_away_at_that_moment(tmp_path: Path) -> None:
    async with server(tmp_path) as end:
        await request(tmp_path, "allow", key=name(1), expires_unix_s=int(time.time()) + 3)
        assert set(end.node.friends) == {key(1)}
        await dismissed(end, key(1))
        (client,) = (await request(tmp_path, "clients"))["clients"]
        assert client["admission"] == "expired"


async def test_an_expiry_is_remembered_over_a_restart(tmp_path: Path) -> None:
    expires = int(time.time()) + 5
    async with server(tmp_path):
        await request(tmp_path, "allow", key=name(1), expires_unix_s=expires)
    async with server(tmp_path) as end:
        assert end.access.next_expiry == expires
        await dismissed(end, key(1))


async def test_all_clients_are_listed_with_why_they_may(tmp_path: Path) -> None:
    text = f"[access]\nsecret = {SECRET}\nallow = {name(1)}\n"
    async with server(tmp_path, text) as end:
        end.friend_request(key(2), GREETING + b" " + SECRET.encode())
        await request(tmp_path, "allow", key=name(3), name="phone")
        await request(tmp_path, "block", key=name(4))
        told = await request(tmp_path, "clients")
    assert told["count"] == 4
    assert [(each["key"], each["admission"], each["name"]) for each in told["clients"]] == [
        (name(1), "configured", None),
        (name(2), "secret", None),
        (name(3), "command", "phone"),
        (name(4), "blocked", None),
    ]
    assert not any(each["connected"] or each["sent_bytes"] for each in told["clients"])


@pytest.mark.parametrize(
    ("method", "params", "text"),
    [
        ("allow", {}, "key: expected text"),
        ("allow", {"key": 5}, "key: expected text"),
        ("allow", {"key": "12"}, "no client on record, and none that waits, is called '12'"),
        ("allow", {"key": "FE" * 32}, "this cannot be a Tox key"),
        ("allow", {"key": "1E" * 32, "name": 5}, "name: expected text"),
        ("allow", {"key": "1E" * 32, "expires_unix_s": 1.5}, "expected whole seconds"),
        ("allow", {"key": "1E" * 32, "expires_unix_s": 5}, "is over already"),
        (
            "allow",
            {"key": "1E" * 32, "colour": "red"},
            "unknown param colour; expected key, name, expires_unix_s",
        ),
        ("revoke", {"key": "1E" * 32}, "this client is not on record"),
        ("clients", {"key": 1}, "unknown param key; expected none"),
        ("ping", {}, "there is no peer yet"),
        ("ping", {"peer": "laptop"}, "there is no such peer"),
        ("ping", {"count": -1}, "there is no peer yet"),
        ("close", {"id": "X-1"}, "no such stream"),
        ("watch", {"interval_s": 0}, "interval_s: expected a number from 0.2 to 60"),
        ("watch", {"interval_s": "1"}, "interval_s: expected a number"),
    ],
)
async def test_a_wrong_order_is_an_error_in_words_and_changes_nothing(
    tmp_path: Path, method: str, params: dict[str, object], text: str
) -> None:
    async with server(tmp_path) as end:
        with pytest.raises(ControlError, match=text) as caught:
            await asyncio.to_thread(_first, tmp_path, method, params)
        assert caught.value.code is ErrorCode.BAD_PARAMS
        assert end.node.friends == {}
    assert not (tmp_path / "clients.json").exists()


def _first(folder: Path, method: str, params: dict[str, object]) -> object:
    from toxproxy.control.client import asked

    return next(asked(folder, method, **params))
