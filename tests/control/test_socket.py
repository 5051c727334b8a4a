"""Requests to a running end on its control socket, in a real folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.asking import request
from toxproxy.control import client, server
from toxproxy.control.client import NotRunning, asked, runs
from toxproxy.control.messages import REQUEST_BYTES, ControlError, ErrorCode
from toxproxy.control.server import ControlServer, Method, Params
from toxproxy.errors import StateError
from toxproxy.system import local

BIG = "x" * 3_000_000


async def echo(params: Params) -> object:
    return {"text": str(params["text"])}


async def fail(params: Params) -> object:
    raise StateError("the disk is full")


async def refuse(params: Params) -> object:
    raise ValueError("expected a key")


async def break_down(params: Params) -> object:
    raise RuntimeError("a bug")


async def big(params: Params) -> object:
    return BIG


async def count(params: Params) -> AsyncGenerator[object, None]:
    for number in range(int(str(params["to"]))):
        yield number + 1


async def count_and_fail(params: Params) -> AsyncGenerator[object, None]:
    yield 1
    raise StateError("no more numbers")


async def flood(params: Params) -> AsyncGenerator[object, None]:
    while True:
        yield BIG


METHODS: dict[str, Method] = {
    "echo": echo,
    "fail": fail,
    "refuse": refuse,
    "break": break_down,
    "big": big,
    "count": count,
    "count_and_fail": count_and_fail,
    "flood": flood,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@contextlib.asynccontextmanager
async def running(folder: Path) -> AsyncIterator[ControlServer]:
    control = ControlServer(folder, METHODS)
    await control.start()
    try:
        yield control
    finally:
        await control.close()


async def send(folder: Path, line: bytes) -> object:
    reader, writer = await asyncio.open_unix_connection(folder / "control")
    writer.write(line)
    answer = await reader.readline()
    writer.close()
    return json.loads(answer)


def collected(folder: Path, method: str, **params: object) -> list[object]:
    return list(asked(folder, method, **params))


# Answers


async def test_a_request_is_answered(folder: Path) -> None:
    async with running(folder):
        assert await request(folder, "echo", text="hällo") == {"text": "hällo"}


async def test_two_requests_at_once_are_both_answered(folder: Path) -> None:
    async with running(folder):
        answers = await asyncio.gather(*(request(folder, "echo", text=each) for each in "ab"))
        assert answers == [{"text": "a"}, {"text": "b"}]


async def test_a_stream_is_answered_to_its_end(folder: Path) -> None:
    async with running(folder):
        assert await asyncio.to_thread(collected, folder, "count", to=3) == [1, 2, 3]
        assert await asyncio.to_thread(collected, folder, "count", to=0) == []


async def test_a_stream_that_fails_says_so_after_what_it_gave(folder: Path) -> None:
    def ask() -> tuple[list[object], str]:
        got: list[object] = []
        try:
            got.extend(asked(folder, "count_and_fail"))
        except ControlError as error:
            return got, str(error)
        return got, ""

    async with running(folder):
        assert await asyncio.to_thread(ask) == ([1], "no more numbers")


async def test_an_answer_of_megabytes_arrives_whole(folder: Path) -> None:
    async with running(folder):
        assert await request(folder, "big") == BIG


async def test_the_lines_are_versioned_json(folder: Path) -> None:
    async with running(folder):
        reader, writer = await asyncio.open_unix_connection(folder / "control")
        writer.write(b'{"version": 1, "method": "count", "params": {"to": 1}}\n')
        lines = [json.loads(line) for line in (await reader.read()).splitlines()]
        writer.close()
    assert lines == [{"version": 1, "result": 1, "more": True}, {"version": 1, "result": None}]


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        ("fail", ErrorCode.FAILED, "the disk is full"),
        ("refuse", ErrorCode.BAD_PARAMS, "expected a key"),
        ("break", ErrorCode.FAILED, "internal error; the log of the running program says more"),
        ("format", ErrorCode.UNKNOWN_METHOD, "unknown method; expected one of big, break, "),
    ],
)
async def test_a_failure_has_a_code_and_a_sentence(
    folder: Path, method: str, code: ErrorCode, text: str
) -> None:
    async with running(folder):
        with pytest.raises(ControlError, match=text) as caught:
            await request(folder, method)
        assert caught.value.code is code
        assert await request(folder, "echo", text="on") == {"text": "on"}


# Who is asked


async def test_where_nothing_runs_that_is_the_error(folder: Path) -> None:
    with pytest.raises(NotRunning, match="no toxproxy runs with state "):
        await request(folder, "echo")
    assert not runs(folder / "none")
    async with running(folder):
        assert await asyncio.to_thread(runs, folder)
    assert not runs(folder)
    assert os.listdir(folder) == []


async def test_the_socket_of_a_killed_program_is_recognised_and_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "control"))
    assert not runs(folder)
    async with running(folder):
        assert await request(folder, "echo", text="new") == {"text": "new"}


async def test_the_socket_is_for_this_user_from_the_first_moment_whatever_the_umask(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    replace = os.replace

    def look(old: Path, new: Path) -> None:
        modes.append(stat.S_IMODE(old.stat().st_mode))
        replace(old, new)

    monkeypatch.setattr(local.os, "replace", look)
    before = os.umask(0)
    try:
        async with running(folder):
            modes.append(stat.S_IMODE((folder / "control").stat().st_mode))
            assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert modes == [0o600, 0o600]


async def test_a_folder_whose_path_is_too_long_for_a_sockets_address_works(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100) / ("y" * 100)
    folder.mkdir(parents=True)
    async with running(folder):
        assert (folder / "control").is_socket()
        assert await request(folder, "echo", text="deep") == {"text": "deep"}
    assert not runs(folder)


async def test_a_folder_that_vanished_is_named(folder: Path) -> None:
    with pytest.raises(StateError, match=r"none/control: cannot listen there: No such file"):
        await ControlServer(folder / "none", METHODS).start()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


CONNECT = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
    sock.sendall(b'{"version": 1, "method": "echo", "params": {"text": "in"}}\\n')
    print(sock.recv(1000))
except OSError as error:
    print(type(error).__name__)
"""


async def as_nobody(code: str, *arguments: str) -> str:
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_cannot_even_connect(open_folder: Path) -> None:
    async with running(open_folder):
        assert await as_nobody(CONNECT, str(open_folder / "control")) == "PermissionError"


ASK = """
import os, sys
from pathlib import Path
from toxproxy.control.client import ask
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    ask(Path(sys.argv[1]), "echo", text="secret")
except Exception as error:
    print(str(error).partition("control ")[2])
"""
SERVE = """
import asyncio, os, sys
from pathlib import Path
from toxproxy.control.server import ControlServer
os.setgroups([]), os.setgid(65534), os.setuid(int(sys.argv[2]))
async def echo(params):
    return params["text"]
async def main():
    control = ControlServer(Path(sys.argv[1]), {"echo": echo})
    await control.start()
    os.chmod(Path(sys.argv[1]) / "control", 0o666)
    print("up", flush=True)
    await asyncio.sleep(20)
asyncio.run(main())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_behind_the_files_mode_the_user_of_a_connection_is_asked_for(open_folder: Path) -> None:
    os.chmod(open_folder, 0o777)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVE, str(open_folder), "65533", stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"up\n"
        other = await as_nobody(CONNECT, str(open_folder / "control"))
        assert other in ("b''", "ConnectionResetError", "BrokenPipeError")
        assert await request(open_folder, "echo", text="root") == "root"
        # And the other way round: what another user listens with is not asked for anything.
        assert await as_nobody(ASK, str(open_folder)) == "belongs to another user: it is not asked"
    finally:
        process.kill()
        await process.wait()


# Bounds


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"hello\n", "malformed"),
        (b"[1]\n", "malformed"),
        (b"\xff\xfe\n", "malformed"),
        (b"[" * 4000 + b"\n", "malformed"),
        (b'{"version": 1, "method": "echo", "params": {"text": "%s"}}\n' % (b"x" * 5000), "malformed"),
        (b"{}\n", "malformed"),
        (b'{"version": "1"}\n', "malformed"),
        (b'{"version": 1}\n', "malformed"),
        (b'{"version": 1, "method": ["echo"]}\n', "malformed"),
        (b'{"version": 1, "method": "echo", "params": []}\n', "malformed"),
        (b'{"version": 2, "method": "echo"}\n', "version"),
        (b'{"version": 1, "method": "format"}\n', "unknown_method"),
    ],
)
async def test_an_invalid_request_is_answered_with_an_error_and_the_server_goes_on(
    folder: Path, line: bytes, code: str
) -> None:
    async with running(folder):
        answer = await send(folder, line)
        assert isinstance(answer, dict)
        assert answer["version"] == 1
        assert answer["error"]["code"] == code
        assert await request(folder, "echo", text="on") == {"text": "on"}


async def test_a_request_that_is_too_long_is_not_even_sent(folder: Path) -> None:
    async with running(folder):
        with pytest.raises(ControlError, match="at most 4096 fit"):
            await request(folder, "echo", text="x" * REQUEST_BYTES)


async def test_a_silent_connection_is_closed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SECONDS", 0.1)
    async with running(folder):
        reader, writer = await asyncio.open_unix_connection(folder / "control")
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_who_does_not_read_is_hung_up_on(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_SECONDS", 0.2)
    async with running(folder) as control:
        reader, writer = await asyncio.open_unix_connection(folder / "control", limit=1024)
        writer.write(b'{"version": 1, "method": "flood"}\n')
        async with asyncio.timeout(10):
            await asyncio.sleep(0.05)
            while control._exchanges:
                await asyncio.sleep(0.02)
        writer.close()
        del reader


async def test_who_hangs_up_ends_a_stream(folder: Path) -> None:
    async with running(folder) as control:
        reader, writer = await asyncio.open_unix_connection(folder / "control")
        writer.write(b'{"version": 1, "method": "flood"}\n')
        await reader.read(1)
        writer.close()
        async with asyncio.timeout(4):
            while control._exchanges:
                await asyncio.sleep(0.02)


async def test_the_seventeenth_connection_at_once_is_told_to_try_later(folder: Path) -> None:
    async with running(folder):
        silent = [await asyncio.open_unix_connection(folder / "control") for _ in range(16)]
        with pytest.raises(ControlError, match=r"too many requests at once|too busy"):
            await request(folder, "echo", text="one more")
        for reader, writer in silent:
            writer.write_eof()
            await reader.read()
            writer.close()
        assert await request(folder, "echo", text="room") == {"text": "room"}


async def test_closing_the_server_closes_every_connection(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_SECONDS", 60)
    before = asyncio.all_tasks()
    async with asyncio.timeout(10), running(folder):
        reader, writer = await asyncio.open_unix_connection(folder / "control")
        await request(folder, "echo", text="the first connection was accepted by now")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    assert asyncio.all_tasks() == before


# Another side that is not as it should be


@contextlib.contextmanager
def answering(folder: Path, line: bytes | None) -> Iterator[None]:
    """A program that takes one connection, answers with `line`, and hangs up; None: it never answers."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(folder / "control"))
        sock.listen()

        def serve() -> None:
            accepted, _ = sock.accept()
            with accepted:
                accepted.recv(REQUEST_BYTES)
                accepted.sendall(line or b"")

        with contextlib.ExitStack() as stack:
            if line is not None:
                from concurrent.futures import ThreadPoolExecutor

                stack.enter_context(ThreadPoolExecutor(1)).submit(serve)
            yield


async def test_a_program_that_never_answers_is_given_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_SECONDS", 0.1)
    with answering(folder, None), pytest.raises(ControlError, match=r"no answer within 0\.1 seconds"):
        await request(folder, "echo")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"", "hung up"),
        (b'{"version": 1, "result": 1}', "hung up"),
        (b"nonsense\n", "expected a JSON object"),
        (b'{"version": 1}\n', "expected a result"),
        (
            b'{"version": 2, "result": 1}\n',
            "speaks version 2 of the control protocol, this command version 1",
        ),
        (b'{"version": 2, "error": {"code": "newer", "message": "use me"}}\n', "use me"),
    ],
)
async def test_an_answer_that_is_none_is_an_error_in_words(folder: Path, line: bytes, text: str) -> None:
    with answering(folder, line), pytest.raises(ControlError, match=text):
        await request(folder, "echo")
