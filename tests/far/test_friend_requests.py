"""Strangers at the server's door: how many are judged, and what the log says of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from toxproxy import config, pace
from toxproxy.app import Server
from toxproxy.state import StateFolder

GREETING = b"toxproxy"
SECRET = GREETING + b" open sesame"


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def server(tmp_path: Path, text: str) -> Server:
    return Server(config.parse(f"[tox]\nbootstrap = none\n{text}", "server.ini"), StateFolder(tmp_path))


async def test_more_strangers_than_may_ask_in_a_minute_are_ignored_with_one_line(
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


async def test_a_secret_cannot_be_guessed_faster_than_that(tmp_path: Path) -> None:
    end = server(tmp_path, "[access]\nsecret = open sesame\n[limits]\nfriend_requests = 3")
    for number in range(3):
        end.friend_request(key(number), GREETING + b" guess %d" % number)
    end.friend_request(key(3), SECRET)
    assert end.access.admitted() == set()


async def test_a_minute_later_the_next_ones_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = server(tmp_path, "[limits]\nfriend_requests = 1")
    end.friend_request(key(1), GREETING)
    end.friend_request(key(2), GREETING)
    monkeypatch.setattr(pace, "MINUTE", 0.0)
    end.friend_request(key(3), GREETING)
    assert end.access.waiting == (key(1), key(3))


async def test_a_client_that_waits_already_is_no_new_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    end = server(tmp_path, "")
    for _ in range(3):
        end.friend_request(key(1), GREETING)
    assert len(caplog.messages) == 1
