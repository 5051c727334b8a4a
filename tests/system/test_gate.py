"""How commands reach a running program: by a Unix socket, and by a port where there are none."""

from __future__ import annotations

import asyncio
import secrets
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from toxproxy.control import client
from toxproxy.control.client import Handover, NotRunning
from toxproxy.control.server import ControlServer, Handed, Params
from toxproxy.errors import StateError
from toxproxy.system import local, loopback

BIG = secrets.token_bytes(300_000)
SECONDS = 30.0


@pytest.fixture(params=["unix", "loopback"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "loopback":
        monkeypatch.setattr(local, "FAMILY", None)
    return str(request.param)


@pytest_asyncio.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    server = ControlServer(tmp_path, {"length": length}, {"reverse": reverse})
    await server.start()
    yield tmp_path
    await server.close()


async def length(params: Params) -> object:
    return len(str(params["text"]))


async def reverse(params: Params, given: Handed) -> object:
    """Send what came back, backwards; tell whether its end was meant."""
    loop = asyncio.get_running_loop()
    given.sock.setblocking(False)
    data = b""
    while piece := await loop.sock_recv(given.sock, 65536):
        data += piece
    written = given.written()
    await loop.sock_sendall(given.sock, data[::-1])
    given.sock.shutdown(socket.SHUT_WR)
    return written


async def test_a_request_is_answered(folder: Path) -> None:
    assert await asyncio.to_thread(client.ask, folder, "length", text="four") == 4


async def test_the_file_is_for_this_user_only_and_goes_away(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {})
    await server.start()
    assert stat.S_IMODE((tmp_path / "control").stat().st_mode) == 0o600
    await server.close()
    assert not (tmp_path / "control").exists()
    with pytest.raises(NotRunning):
        client.ask(tmp_path, "length")


@pytest.mark.parametrize("data", [b"", b"hello", BIG])
async def test_a_stream_is_handed_over(folder: Path, data: bytes) -> None:
    def command() -> tuple[bytes, object]:
        with Handover(folder, "reverse") as handover:
            handover.stream.sendall(data)
            handover.written()
            handover.stream.shutdown(socket.SHUT_WR)
            came = b""
            while piece := handover.stream.recv(65536):
                came += piece
            return came, handover.answer()

    assert await asyncio.to_thread(command) == (data[::-1], True)


async def test_the_end_of_a_stream_that_was_not_announced_is_told_from_one_that_was(folder: Path) -> None:
    def command() -> object:
        with Handover(folder, "reverse") as handover:
            handover.stream.sendall(b"half a li")
            handover.stream.shutdown(socket.SHUT_WR)  # as the system does for a process that was killed
            return handover.answer()

    assert await asyncio.to_thread(command) is False


async def test_a_request_that_is_not_known_closes_the_stream(folder: Path) -> None:
    def command() -> bytes:
        with Handover(folder, "length", text="x") as handover:
            assert handover.answer() == 1
            return handover.stream.recv(1)

    assert await asyncio.to_thread(command) == b""


async def test_a_file_that_is_no_gate_is_of_nobody_who_runs(tmp_path: Path, way: str) -> None:
    if way == "unix":
        pytest.skip("a Unix socket is no file")
    for content in (b"", b"x y", b"0 " + bytes(32).hex().encode(), b"70000 00", b"\xff" * 4096):
        (tmp_path / "control").write_bytes(content)
        with pytest.raises(NotRunning):
            client.ask(tmp_path, "length")


async def test_another_secret_is_not_admitted_and_sends_no_request(folder: Path, way: str) -> None:
    if way == "unix":
        pytest.skip("it has no secret")
    port = (folder / "control").read_text().split()[0]
    (folder / "control").write_text(f"{port} {secrets.token_hex(32)}")
    for ask in (client.ask, lambda *asked: Handover(*asked)):
        with pytest.raises(NotRunning):
            await asyncio.to_thread(ask, folder, "reverse")


async def test_a_stream_begins_with_its_proof(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that connect meanwhile are hung up on."""
    if way == "unix":
        pytest.skip("its socket pair has no port")
    monkeypatch.setattr(loopback, "_SECONDS", 0.2)
    proof = secrets.token_bytes(32)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        silent = socket.create_connection(listener.getsockname())
        wrong = socket.create_connection(listener.getsockname())
        wrong.sendall(bytes(32))
        right = socket.create_connection(listener.getsockname())
        right.sendall(proof[:5])
        right.sendall(proof[5:] + b"and more")
        with await asyncio.to_thread(loopback._stream, listener, proof) as stream:
            assert stream.recv(100) == b"and more"
        for other in (silent, wrong, right):
            other.close()


async def test_whoever_is_silent_is_hung_up_on(
    folder: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "unix":
        pytest.skip("the system knows who it is")
    monkeypatch.setattr(loopback, "_SECONDS", 0.2)
    port = int((folder / "control").read_text().split()[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(SECONDS):
        assert len(await reader.readexactly(32)) == 32
        assert await reader.read() == b""
    writer.close()
    assert await asyncio.to_thread(client.ask, folder, "length", text="") == 0


async def test_a_folder_that_is_not_there_is_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(StateError):
        client.ask(tmp_path / "none", "length")
