"""Whatever ends a program, or nearly does: one clear line, the right exit status, no damage."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import pytest_asyncio

from tests.alone import ALONE
from tests.asking import request
from tests.end.clients import Finished, run
from tests.end.kills import AGAIN, Ends, killed_and_back
from tests.end.world import told
from tests.isolated import MAY_ISOLATE, needs_namespaces, resolving_with
from toxproxy.control.messages import ControlError
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import HERE, Place, Process
from toxproxy.system.state import StateFolder

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVER = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
KEY = "1E" * 32
# A name server that never answers, where no other run of the tests has one
SILENT = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.77"

# What is mounted on the folder $0 before the program runs, in a mount namespace of its own
READ_ONLY = 'mount -t tmpfs -o size=64k,mode=700,ro tmpfs "$0" && exec "$@"'
WITHOUT_ROOM_FOR_FILES = 'mount -t tmpfs -o size=64k,nr_inodes=2,mode=700 tmpfs "$0" && exec "$@"'
FULL = 'mount -t tmpfs -o size=8k,mode=700 tmpfs "$0"; head -c 8192 /dev/zero > "$0/other" && exec "$@"'
SMALL = 'mount -t tmpfs -o size=64k,mode=700 tmpfs "$0" && exec "$@"'


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A configuration without a network."""
    path = tmp_path / "alone.ini"
    path.write_text(ALONE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    return path


async def toxproxy(*arguments: object, prefix: tuple[str, ...] = ()) -> Finished:
    """Run a command that must end by itself."""
    program, *rest = *prefix, sys.executable, "-m", "toxproxy", *map(str, arguments)
    return await run(program, *rest)


def mounting(script: str, folder: Path) -> tuple[str, ...]:
    return ("unshare", "--mount", "sh", "-c", script, str(folder))


# The state folder


@needs_namespaces
@pytest.mark.parametrize(
    ("script", "file", "reason"),
    [
        (READ_ONLY, "lock", "cannot be opened: Read-only file system"),
        (WITHOUT_ROOM_FOR_FILES, "identity.tox", "cannot be written: No space left on device"),
        (FULL, "lock", "cannot be locked: No space left on device"),
    ],
    ids=["read-only", "no room for files", "full"],
)
@pytest.mark.parametrize("command", ["server", "id"])
async def test_a_state_folder_that_cannot_be_written_to_is_named(
    command: str, script: str, file: str, reason: str, alone: Path, folder: Path
) -> None:
    config = (alone,) if command == "server" else ()
    end = await toxproxy(command, *config, "--state", folder, prefix=mounting(script, folder))
    assert (end.status, end.out) == (1, b"")
    assert end.err == f"toxproxy: {folder}/{file} {reason}\n"


@needs_namespaces
async def test_a_full_disk_stops_no_program_and_keeps_the_saved_files(tmp_path: Path) -> None:
    folder = tmp_path / "server.state"
    folder.mkdir(mode=0o700)
    server = Process("server", tmp_path, Place(mounting(SMALL, folder)))
    try:
        await server.start(ALONE)
        seen = Path(f"/proc/{server.pid}/root{folder}")  # its mount, seen from outside its namespace
        state = StateFolder(seen)
        identity = state.read("identity.tox")
        assert identity is not None
        fill(seen / "other")
        full = f"{folder}/identity.tox cannot be written: No space left on device"
        with pytest.raises(ControlError, match=full):
            await request(seen, "allow", key=KEY)
        assert state.read("identity.tox") == identity
        (seen / "other").unlink()
        assert (await request(seen, "allow", key=KEY))["key"] == KEY
    finally:
        assert await server.stop() == 0


def fill(path: Path) -> None:
    """Fill up the rest of a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
async def test_the_state_folder_of_another_user_is_refused(alone: Path, folder: Path) -> None:
    os.chown(folder, 12345, -1)
    end = await toxproxy("server", alone, "--state", folder)
    assert (end.status, end.out) == (1, b"")
    assert end.err == f"toxproxy: {folder} belongs to another user (id 12345): choose another folder\n"


# Ports


async def test_a_udp_port_that_is_taken_is_named(tmp_path: Path, folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        port = taken.getsockname()[1]
        config = tmp_path / "taken.ini"
        config.write_text(ALONE.replace("22000-22999", str(port)))
        end = await toxproxy("server", config, "--state", folder)
    assert (end.status, end.out) == (1, b"")
    assert end.err == f"toxproxy: Tox does not start: no UDP port from {port} to {port} is free\n"


async def test_a_listeners_port_that_is_taken_is_named(tmp_path: Path, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = tmp_path / "taken.ini"
        config.write_text(f"{ALONE}[socks]\nbrowser = {port}:{SERVER}\n")
        end = await toxproxy("client", config, "--state", folder)
    assert (end.status, end.out) == (1, b"")
    assert end.err == f"toxproxy: browser: cannot listen on 127.0.0.1:{port}: address already in use\n"


# Output that cannot be written


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "0<&- >&- 2>&-"])
async def test_a_log_that_cannot_be_written_stops_no_program(where: str, tmp_path: Path, alone: Path) -> None:
    ready = tmp_path / "ready"
    command = [sys.executable, "-m", "toxproxy", "server", str(alone), "--state", str(tmp_path / "state")]
    server = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {where}', "sh", *command, "--ready-file", str(ready)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        while not ready.exists():
            await asyncio.sleep(0.05)
        assert (await request(tmp_path / "state", "allow", key=KEY))["key"] == KEY
        os.kill(server.pid, signal.SIGTERM)
        await server.wait()
    assert server.returncode == 0


# Killed at any moment


async def test_an_identity_outlives_a_server_killed_at_any_moment(alone: Path, folder: Path) -> None:
    first = (await toxproxy("id", "--state", folder)).out
    for moment in range(8):
        server = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toxproxy", "server", str(alone), "--state", str(folder)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await asyncio.sleep(0.15 + moment * 0.05)
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
    assert (await toxproxy("id", "--state", folder)).out == first


# A server and a client that have met


@pytest.fixture(scope="module")
def silent_name_server() -> Iterator[socket.socket]:
    """A name server that receives requests and never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((SILENT, 53))
        silent.setblocking(False)
        yield silent


@needs_namespaces
async def test_a_program_can_stop_during_a_look_up(tmp_path: Path, silent_name_server: socket.socket) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(f"nameserver {SILENT}\noptions timeout:30\n")
    server = Process("server", tmp_path, Place(resolving_with(resolv_conf)))
    try:
        await server.start(ALONE.replace("none", f"node.home.arpa:33445:{KEY}"))
        await asked(silent_name_server, b"node\x04home\x04arpa")
    finally:
        assert await server.stop(20) == 0


async def asked(name_server: socket.socket, name: bytes) -> None:
    """Wait until the name server gets a request for a name in wire format (RFC 1035, section 3.1)."""
    async with asyncio.timeout(10):
        while name not in await asyncio.get_running_loop().sock_recv(name_server, 512):
            pass


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def pairs(
    network: PrivateNetwork, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Ends, Ends]]:
    """Two pairs, one for each end to be killed. If possible, the first server's name server never answers."""
    folders = [tmp_path_factory.mktemp("ends") for _ in range(2)]
    resolv_conf = folders[0] / "resolv.conf"
    resolv_conf.write_text(f"nameserver {SILENT}\noptions timeout:30\n")
    place = Place(resolving_with(resolv_conf)) if MAY_ISOLATE else HERE
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as group:
            first, second = (
                group.create_task(stack.enter_async_context(Ends(folder, network, where).running()))
                for folder, where in zip(folders, (place, HERE), strict=True)
            )
        yield first.result(), second.result()


@needs_namespaces
async def test_a_dead_resolver_is_an_error_within_the_connect_timeout(
    pairs: tuple[Ends, Ends], silent_name_server: socket.socket
) -> None:
    ends, _ = pairs
    reader, writer = await asyncio.open_connection(*ends.listener("browser"))
    writer.write(b"\x05\x01\x00\x05\x01\x00\x03\x10server.home.arpa\x00\x50")
    async with asyncio.timeout(15):
        answer = await reader.read()
    writer.close()
    assert answer[:4] == b"\x05\x00\x05\x06"  # "TTL expired", the code of RFC 1928 for a timeout
    await asked(silent_name_server, b"server\x04home\x04arpa")
    await ends.answered()


@pytest.mark.timeout(3 * AGAIN)
async def test_a_client_killed_under_load_comes_back(pairs: tuple[Ends, Ends]) -> None:
    await killed_and_back(pairs[0], "client")


@pytest.mark.timeout(3 * AGAIN)
async def test_a_server_killed_under_load_comes_back(pairs: tuple[Ends, Ends]) -> None:
    resets, _ = await killed_and_back(pairs[1], "server")
    assert all(resets)


@pytest.mark.timeout(AGAIN)
async def test_transfers_still_running_after_the_grace_time_are_reset(
    pairs: tuple[Ends, Ends],
) -> None:
    ends, _ = pairs
    await ends.load()
    stopping = asyncio.create_task(ends.client.stop(60))
    await told(ends.client, "connections to end")
    assert await stopping == 0
    assert all(await ends.ended())
