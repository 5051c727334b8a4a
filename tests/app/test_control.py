"""Requests to a running server on its control socket, in a real folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from toxproxy.app import control
from toxproxy.app.control import ControlServer, request
from toxproxy.errors import StateError
from toxproxy.system.state import StateFolder


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "server")


def fail(question: dict[str, object]) -> dict[str, object]:
    raise StateError("the disk is full")


HANDLERS: dict[str, control.Handler] = {
    "echo": lambda question: {"text": str(question["text"])},
    "fail": fail,
}


@contextlib.asynccontextmanager
async def running(state: StateFolder) -> AsyncIterator[ControlServer]:
    server = ControlServer(state, HANDLERS)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


async def send(state: StateFolder, line: bytes) -> object:
    reader, writer = await asyncio.open_unix_connection(state.path / "control")
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    return json.loads(answer)


async def test_a_request_is_answered(state: StateFolder) -> None:
    async with running(state):
        assert await request(state, "echo", text="hällo") == {"ok": True, "text": "hällo"}


async def test_two_requests_at_once_are_both_answered(state: StateFolder) -> None:
    async with running(state):
        answers = await asyncio.gather(*(request(state, "echo", text=each) for each in "ab"))
        assert answers == [{"ok": True, "text": "a"}, {"ok": True, "text": "b"}]


async def test_without_a_server_there_is_no_answer(state: StateFolder) -> None:
    assert await request(state, "echo") is None
    async with running(state):
        pass
    assert await request(state, "echo") is None
    assert not (state.path / "control").exists()


async def test_the_socket_of_a_killed_server_is_replaced(state: StateFolder) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(state.path / "control"))
    assert await request(state, "echo") is None
    async with running(state):
        assert await request(state, "echo", text="new") == {"ok": True, "text": "new"}


async def test_the_socket_is_for_this_user_only(state: StateFolder) -> None:
    async with running(state):
        assert stat.S_IMODE((state.path / "control").stat().st_mode) == 0o600


async def test_a_folder_whose_path_is_too_long_for_a_socket_address_works(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / ("x" * 100) / ("y" * 100))
    async with running(state):
        assert (state.path / "control").is_socket()
        assert stat.S_IMODE((state.path / "control").stat().st_mode) == 0o600
        assert await request(state, "echo", text="deep") == {"ok": True, "text": "deep"}
    assert await request(state, "echo") is None


async def test_a_folder_that_vanished_is_named(state: StateFolder) -> None:
    state.path.rmdir()
    with pytest.raises(StateError, match=r"server/control: cannot listen there: No such file"):
        await ControlServer(state, HANDLERS).start()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"hello\n", "expected a JSON object on one line"),
        (b"[1]\n", "expected a JSON object on one line"),
        (b"\xff\xfe\n", "expected a JSON object on one line"),
        (b"[" * 4000 + b"\n", "expected a JSON object on one line"),
        (b'{"command": "echo", "text": "%s"}\n' % (b"x" * 5000), "expected a JSON object on one line"),
        (b"{}\n", "unknown command; expected echo, fail"),
        (b'{"command": "format"}\n', "unknown command; expected echo, fail"),
        (b'{"command": ["echo"]}\n', "unknown command; expected echo, fail"),
        (b'{"command": "fail"}\n', "the disk is full"),
    ],
)
async def test_an_invalid_request_is_answered_with_an_error_and_the_server_goes_on(
    state: StateFolder, line: bytes, error: str
) -> None:
    async with running(state):
        assert await send(state, line) == {"ok": False, "error": error}
        assert await request(state, "echo", text="on") == {"ok": True, "text": "on"}


async def test_a_silent_connection_is_closed(state: StateFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_SECONDS", 0.1)
    async with running(state):
        reader, writer = await asyncio.open_unix_connection(state.path / "control")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_the_seventeenth_connection_at_once_is_closed(state: StateFolder) -> None:
    async with running(state):
        silent = [await asyncio.open_unix_connection(state.path / "control") for _ in range(16)]
        with pytest.raises(StateError, match="does not answer as it should"):
            await request(state, "echo", text="one more")
        for reader, writer in silent:
            writer.write_eof()
            await reader.read()
            writer.close()
        assert await request(state, "echo", text="room") == {"ok": True, "text": "room"}


async def test_closing_the_server_closes_every_connection(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_SECONDS", 60)
    before = asyncio.all_tasks()
    async with asyncio.timeout(10), running(state):
        reader, writer = await asyncio.open_unix_connection(state.path / "control")
        await request(state, "echo", text="the first connection was accepted by now")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert asyncio.all_tasks() == before


async def test_a_server_that_never_answers_is_given_up(
    state: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_SECONDS", 0.1)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(state.path / "control"))
        mute.listen()
        with pytest.raises(StateError, match=r"no answer within 0\.1 seconds"):
            await request(state, "echo")
