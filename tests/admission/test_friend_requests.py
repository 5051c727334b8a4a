"""Friend requests of strangers: how many are judged, and what is logged of the others."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.asking import request
from toxproxy import config, pace
from toxproxy.admission import access, requests
from toxproxy.app.server import Server
from toxproxy.control.messages import ControlError
from toxproxy.system.state import StateFolder

GREETING = b"toxproxy"
WEAK, STRONG = "open sesame", "correct horse battery staple"


def key(number: int) -> bytes:
    return number.to_bytes(31, "big") + b"\x01"


def words(secret: str) -> bytes:
    return GREETING + b" " + secret.encode()


def server(tmp_path: Path, text: str) -> Server:
    return Server(config.parse(f"{ALONE}{text}", "server.ini"), StateFolder(tmp_path))


def recorded(tmp_path: Path) -> set[str]:
    """The keys in the server's file of clients."""
    file = tmp_path / "clients.json"
    return set(json.loads(file.read_bytes())) if file.is_file() else set()


async def dismissed(end: Server, client: bytes) -> None:
    """Wait until a client is not a friend any more."""
    async with asyncio.timeout(10):
        while client in end.node.friends:
            await asyncio.sleep(0.01)


# How many are judged


async def test_requests_beyond_the_limit_are_ignored_with_one_log_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    end = server(tmp_path, "[limits]\nfriend_requests = 3")
    for number in range(100):
        end.friend_request(key(number), GREETING)
    assert end.access.waiting == tuple(map(key, range(3)))
    *waiting, ignored = caplog.messages
    assert [line.startswith("a client waits to be let in") for line in waiting] == [True] * 3
    assert ignored == "friend requests beyond 3 a minute are ignored ([limits] friend_requests)"


async def test_a_minute_later_requests_are_judged_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = server(tmp_path, "[limits]\nfriend_requests = 1")
    end.friend_request(key(1), GREETING)
    end.friend_request(key(2), GREETING)
    monkeypatch.setattr(pace, "MINUTE", 0.0)
    end.friend_request(key(3), GREETING)
    assert end.access.waiting == (key(1), key(3))


async def test_a_repeated_request_is_neither_logged_nor_counted_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    end = server(tmp_path, "[limits]\nfriend_requests = 2")
    for _ in range(3):
        end.friend_request(key(1), GREETING)
    end.friend_request(key(2), GREETING)
    assert end.access.waiting == (key(1), key(2))
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("secret", [WEAK, STRONG])
async def test_a_flood_of_strangers_does_not_keep_out_a_client_with_the_secret(
    tmp_path: Path, secret: str
) -> None:
    async with server(tmp_path, f"[access]\nsecret = {secret}") as end:
        for number in range(90):
            end.friend_request(key(number), words("wrong") if number % 2 else GREETING)
        end.friend_request(key(100), words(secret))
        assert end.access.admitted() == set(end.node.friends) == {key(100)}


async def test_twenty_clients_with_the_secret_at_once_are_all_let_in(tmp_path: Path) -> None:
    async with server(tmp_path, f"[access]\nsecret = {STRONG}\n[limits]\nfriend_requests = 1") as end:
        keys = {key(number) for number in range(20)}
        for each in keys:
            end.friend_request(each, words(STRONG))
        assert set(end.node.friends) == keys


async def test_a_weak_secret_cannot_be_guessed_fast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(requests, "GUESSES", 3)
    async with server(tmp_path, f"[access]\nsecret = {WEAK}") as end:
        for number in range(3):
            end.friend_request(key(number), words(f"guess {number}"))
        end.friend_request(key(3), words(WEAK))
        assert end.access.admitted() == set()
        told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert told == ["a client has a wrong secret ([access] secret)"]
        monkeypatch.setattr(pace, "MINUTE", 0.0)
        end.friend_request(key(3), words(WEAK))
        assert end.access.admitted() == {key(3)}


async def test_a_full_list_is_a_line_with_the_command_that_lets_in_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(access, "_MAX_RECORDS", 0)
    async with server(tmp_path, f"[access]\nsecret = {STRONG}") as end:
        end.friend_request(key(1), words(STRONG))
        assert end.access.admitted() == set()
    command = f"toxproxy allow --state {tmp_path} {key(1).hex().upper()}"
    assert caplog.messages == [f"a client is not let in: clients.json is full; to let it in: {command}"]


async def test_a_strong_secret_lets_in_during_a_flood_of_guesses(tmp_path: Path) -> None:
    async with server(tmp_path, f"[access]\nsecret = {STRONG}") as end:
        for number in range(10 * requests.GUESSES):
            end.friend_request(key(number), words(f"guess {number}"))
        end.friend_request(key(0), words(STRONG))
        assert end.access.admitted() == {key(0)}


async def test_a_client_that_made_room_is_no_friend_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_MAX_RECORDS", 2)
    async with server(tmp_path, "[access]\nallow = *") as end:
        for number in range(3):
            end.friend_request(key(number), GREETING)
        await dismissed(end, key(0))
        assert set(end.node.friends) == {key(1), key(2)}
        end.friend_request(key(0), GREETING)
        await dismissed(end, key(1))
        assert set(end.node.friends) == end.access.admitted() == {key(2), key(0)}


async def test_a_key_deleted_from_the_file_is_no_friend_after_the_next_change(tmp_path: Path) -> None:
    async with server(tmp_path, "") as end:
        for number in (1, 2):
            assert await request(tmp_path, "allow", key=key(number).hex())
        entries = json.loads((tmp_path / "clients.json").read_bytes())
        del entries[key(1).hex().upper()]
        (tmp_path / "clients.json").write_text(json.dumps(entries))
        assert await request(tmp_path, "allow", key=key(3).hex())
        await dismissed(end, key(1))
        assert set(end.node.friends) == end.access.admitted() == {key(2), key(3)}
    assert recorded(tmp_path) == {key(2).hex().upper(), key(3).hex().upper()}


# What Tox or the disk refuses


@pytest.mark.parametrize("text", ["[access]\nallow = *", f"[access]\nsecret = {STRONG}"])
async def test_a_request_from_a_key_that_tox_does_not_accept_changes_nothing(
    tmp_path: Path, text: str
) -> None:
    impossible = bytes(31) + b"\x80"
    async with server(tmp_path, text) as end:
        for message in (GREETING, words(STRONG)):
            end.friend_request(impossible, message)
        assert end.node.friends == {}
        with pytest.raises(ControlError, match="cannot be a Tox key"):
            await request(tmp_path, "allow", key=impossible.hex())
    assert recorded(tmp_path) == set()


async def test_a_recorded_key_that_tox_refuses_is_a_warning_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(tmp_path, "") as end:
        own = end.node.public_key
    impossible = bytes(31) + b"\x80"
    entries = {each.hex().upper(): {"by": "command"} for each in (own, impossible, key(1))}
    (tmp_path / "clients.json").write_text(json.dumps(entries))
    async with server(tmp_path, "") as end:
        assert set(end.node.friends) == {key(1)}
        end.friend_request(key(1), GREETING)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [line.endswith("cannot be a Tox key; it is not let in") for line in told] == [True, False]
    assert told[1].endswith("is not let in: Tox does not accept its key (TOX_ERR_FRIEND_ADD_OWN_KEY)")


async def test_the_servers_own_key_is_refused_and_not_recorded(tmp_path: Path) -> None:
    async with server(tmp_path, "") as end:
        with pytest.raises(ControlError, match="this is the key of the server itself: give the client's"):
            await request(tmp_path, "allow", key=end.node.public_key.hex())
    assert recorded(tmp_path) == set()


@pytest.mark.parametrize("file", ["identity.tox", "clients.json"])
async def test_a_client_that_cannot_be_recorded_is_no_friend_either(
    tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with server(tmp_path, f"[access]\nsecret = {STRONG}") as end:
        kept = (tmp_path / file).read_bytes() if file == "identity.tox" else None
        (tmp_path / file).unlink(missing_ok=True)
        (tmp_path / file).mkdir()
        end.friend_request(key(1), words(STRONG))
        with pytest.raises(ControlError, match=file):
            await request(tmp_path, "allow", key=key(2).hex())
        assert end.node.friends == {}
        assert end.access.admitted() == set()
        assert [record for record in caplog.records if file in record.getMessage()]
        (tmp_path / file).rmdir()
        if kept is not None:
            (tmp_path / file).write_bytes(kept)
        end.friend_request(key(1), words(STRONG))
        assert set(end.node.friends) == end.access.admitted() == {key(1)}
        assert len(end._friends) == 1
