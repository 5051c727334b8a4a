"""`toxproxy connect` as ssh starts it: a process of its own beside a running client."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.asking import request
from tests.joined import connected, node_of
from tests.tox.pair import unused_port
from tests.tunnel.ends import echo, service
from toxproxy import config
from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.control.messages import ControlError, ErrorCode, Request, encode_request
from toxproxy.control.snapshots import ListenerKind
from toxproxy.system import gate, local

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATIENCE = 60
TOX = "[tox]\nbootstrap = {node}\nlocal_discovery = no\nport = 22000-22999\nwait = 10\n"
BIG = os.urandom(3_000_000)

Process = asyncio.subprocess.Process


@dataclass
class Far:
    """What is behind the server: its ports, and how the connections to `listener` ended there."""

    echo: int
    greeter: int
    breaker: int
    listener: int
    heard: list[str] = field(default_factory=list)


@dataclass
class Ends:
    folder: Path
    server: Server
    client: Client
    far: Far

    async def command(self, *where: object, state: Path | None = None) -> Process:
        words = ["connect", "--state", str(state or self.folder / "client"), *map(str, where)]
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toxproxy", *words),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(
        self, *where: object, send: bytes = b"", state: Path | None = None
    ) -> tuple[int, bytes, str]:
        process = await self.command(*where, state=state)
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(send)
        assert process.returncode is not None
        return process.returncode, out, err.decode()


async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ends its direction first, as a server does that has nothing more to say."""
    writer.write(b"SSH-2.0-test\r\n")
    writer.write_eof()


async def break_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"some of it")
    await writer.drain()
    await asyncio.sleep(0.2)
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ends(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ends]:
    folder = tmp_path_factory.mktemp("connect")
    heard: list[str] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(1)
            if first:
                heard.append("a byte")
            heard.append(f"{len(first + await reader.read())} bytes, then the end")
        except ConnectionResetError:
            heard.append("reset")
        writer.close()

    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(service(each)) for each in (echo, greet, break_off, listen)]
        text = TOX.format(node="none") + "[access]\nallow = *\npermit = 127.0.0.1:*\n"
        server = await stack.enter_async_context(Server(config.parse(text, "server"), folder / "server"))
        node = node_of(server)
        text = TOX.format(node=node) + f"[exits]\nhome = {server.node.tox_id}\n"
        (folder / "client.ini").write_text(text)
        client = await stack.enter_async_context(Client(config.parse(text, "client"), folder / "client"))
        await connected(client)
        yield Ends(folder, server, client, Far(*ports, heard))


async def told(heard: list[str]) -> str:
    async with asyncio.timeout(PATIENCE):
        while not heard:
            await asyncio.sleep(0.01)
    return heard.pop(0)


async def test_bytes_go_both_ways_and_nothing_else_is_printed(ends: Ends) -> None:
    assert await ends.run("home", "127.0.0.1", ends.far.echo, send=BIG) == (0, BIG, "")


async def test_the_only_server_needs_no_name(ends: Ends) -> None:
    assert await ends.run("127.0.0.1", ends.far.echo, send=b"hello") == (0, b"hello", "")


async def test_an_exit_by_its_id_and_by_the_beginning_of_its_key(ends: Ends) -> None:
    tox_id = str(ends.server.node.tox_id)
    for exit in (tox_id, tox_id[:64], tox_id[:8].lower()):
        assert await ends.run(exit, "127.0.0.1", ends.far.echo, send=b"hello") == (0, b"hello", "")


async def test_the_far_end_ends_first_and_the_other_direction_goes_on(ends: Ends) -> None:
    process = await ends.command("home", "127.0.0.1", ends.far.greeter)
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.read() == b"SSH-2.0-test\r\n"
        await asyncio.sleep(0.1)
        assert process.returncode is None
        await process.communicate(b"")
    assert process.returncode == 0


async def test_standard_input_ends_first(ends: Ends) -> None:
    assert await ends.run("home", "127.0.0.1", ends.far.listener, send=b"x" * 1000) == (0, b"", "")
    assert await told(ends.far.heard) == "a byte"
    assert await told(ends.far.heard) == "1000 bytes, then the end"


async def test_input_and_output_on_one_socket_as_inetd_has_them(ends: Ends) -> None:
    near, far = socket.socketpair()
    words = ["connect", "--state", str(ends.folder / "client"), "127.0.0.1", str(ends.far.greeter)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "toxproxy", *words, stdin=far, stdout=far
    )
    far.close()
    reader, writer = await asyncio.open_connection(sock=near)
    async with asyncio.timeout(PATIENCE):
        assert await reader.read() == b"SSH-2.0-test\r\n"
        writer.write_eof()
        assert await process.wait() == 0
    writer.close()


async def test_each_failure_has_its_exit_status_and_says_why(ends: Ends) -> None:
    closed = unused_port()
    status, out, err = await ends.run("home", "127.0.0.1", closed)
    assert (status, out, err) == (6, b"", f"toxproxy: 127.0.0.1 port {closed}: connection refused\n")
    status, out, err = await ends.run("home", "192.0.2.1", 22)
    assert (status, out) == (4, b"")
    assert err.startswith("toxproxy: 192.0.2.1 port 22: not permitted")
    status, out, err = await ends.run("office", "127.0.0.1", ends.far.echo)
    assert (status, out, err) == (1, b"", "toxproxy: there is no such peer\n")


async def test_data_that_was_cut_is_told_from_data_that_is_complete(ends: Ends) -> None:
    process = await ends.command("home", "127.0.0.1", ends.far.breaker)
    async with asyncio.timeout(PATIENCE):
        assert process.stdout is not None
        assert process.stderr is not None
        assert await process.stdout.read() == b"some of it"
        assert await process.wait() == 8
        assert b"the connection was reset" in await process.stderr.read()


async def test_a_command_that_is_killed_resets_its_connection(ends: Ends) -> None:
    process = await ends.command("home", "127.0.0.1", ends.far.listener)
    assert process.stdin is not None
    process.stdin.write(b"the beginning of a file")
    await process.stdin.drain()
    assert await told(ends.far.heard) == "a byte"
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert await told(ends.far.heard) == "reset"


async def streams(ends: Ends) -> list[dict[str, Any]]:
    answer: Any = await request(ends.folder / "client", "streams")
    streams: list[dict[str, Any]] = answer["streams"]
    return streams


async def test_it_counts_in_the_status(ends: Ends) -> None:
    before = [each for each in ends.client.status().listeners if each.kind is ListenerKind.COMMAND]
    await ends.run("home", "127.0.0.1", ends.far.echo)
    (after,) = (each for each in ends.client.status().listeners if each.kind is ListenerKind.COMMAND)
    assert after.accepted == 1 + (before[0].accepted if before else 0)
    assert after.connections == 0


async def test_many_at_once_leave_room_for_other_orders(ends: Ends) -> None:
    processes = [await ends.command("home", "127.0.0.1", ends.far.echo) for _ in range(20)]
    async with asyncio.timeout(PATIENCE):
        while len(await streams(ends)) < 20:
            await asyncio.sleep(0.05)
        for process in processes:
            await process.communicate(b"")
    assert [process.returncode for process in processes] == [0] * 20


async def test_an_order_without_a_socket_is_an_error(ends: Ends) -> None:
    with pytest.raises(ControlError, match="expected a socket") as caught:
        await request(ends.folder / "client", "connect", host="127.0.0.1", port=ends.far.echo)
    assert caught.value.code is ErrorCode.BAD_PARAMS


async def test_something_else_than_a_socket_is_turned_away(ends: Ends, tmp_path: Path) -> None:
    def hand_over_a_file() -> bytes:
        with (
            open(tmp_path / "file", "wb") as file,
            gate.connect(ends.folder / "client" / "control", 15.0) as sock,
        ):
            local.send_with(sock, encode_request(Request("connect", {})), file)  # type: ignore[arg-type]
            with suppress(ConnectionError):
                return sock.recv(4096)
        return b""

    answer = await asyncio.to_thread(hand_over_a_file)
    assert answer == b"" or b'"error"' in answer
    assert await ends.run("127.0.0.1", ends.far.echo, send=b"hello") == (0, b"hello", "")


async def test_without_a_client_it_runs_one_by_itself(ends: Ends, tmp_path: Path) -> None:
    where = ("home", "127.0.0.1", ends.far.echo)
    config = str(ends.folder / "client.ini")
    assert await ends.run("--config", config, *where, send=BIG, state=tmp_path / "own") == (0, BIG, "")


async def test_without_a_client_and_a_configuration_it_says_what_to_do(ends: Ends, tmp_path: Path) -> None:
    status, out, err = await ends.run("home", "127.0.0.1", 22, state=tmp_path / "none")
    assert (status, out) == (2, b"")
    assert "no client runs here" in err


async def test_a_wrong_command_line_is_said(ends: Ends) -> None:
    for where in (("127.0.0.1",), ("127.0.0.1", "ssh"), ("127.0.0.1", 70000), ("a", "b", 22, 23)):
        status, out, _ = await ends.run(*where)
        assert (status, out) == (2, b"")
