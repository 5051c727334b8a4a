"""What another user of the machine can read and reach of running programs."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.asking import request
from tests.end.clients import run
from tests.end.world import proc
from toxproxy.demo.network import Process

KEY = "1E" * 32
TOX_ID = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
SECRETS = ("open-sesame-7231", "alibaba-5519", "upstream-8846")
SERVER = f"{ALONE}[access]\nsecret = {SECRETS[0]}\n[exit]\nupstream = socks5://me:{SECRETS[2]}@127.0.0.1:9\n"
CLIENT = f"{ALONE}[access]\nsecret = {SECRETS[0]}\n[socks]\nlocked = alice:{SECRETS[1]}@0:{TOX_ID}\n"
CONFIGS = {"server": SERVER, "client": CLIENT}

# Attempts of another user; prints those that worked. Python may be installed where only root can start it.
ATTEMPTS = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
folder, ready = sys.argv[1:]
def connect():
    socket.socket(socket.AF_UNIX).connect(folder + "/control")
for name, attempt in {
    "list": lambda: os.listdir(folder),
    "identity": lambda: open(folder + "/identity.tox"),
    "lock": lambda: open(folder + "/lock", "w"),
    "control": connect,
    "ready": lambda: open(ready),
}.items():
    try:
        attempt()
    except PermissionError:
        continue
    print(name)
"""


@contextmanager
def careless_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("role", ["server", "client"])
async def test_no_secret_is_in_the_command_line_the_environment_the_log_or_the_ready_file(
    role: str, tmp_path: Path
) -> None:
    process = Process(role, tmp_path)
    try:
        await process.start(CONFIGS[role], "-v")
        told = [*proc(process, "cmdline"), (tmp_path / f"{role}.json").read_text()]
        with suppress(PermissionError):  # then even this user cannot read it
            told += proc(process, "environ")
        if role == "client":
            host, _, port = process.ready["listeners"][0]["address"].rpartition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"\x05\x01\x02\x01\x05alice" + bytes([len(SECRETS[1])]) + SECRETS[1].encode() + b"\x09"
            )
            writer.close()
    finally:
        assert await process.stop() == 0
    told.append(process.log.read_text())
    assert "started" in told[-1]
    for secret in SECRETS:
        assert not [text for text in told if secret in text]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that everybody can enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_another_user_can_read_nothing_and_ask_nothing_whatever_the_umask(folder: Path) -> None:
    server, state = Process("server", folder), folder / "server.state"
    try:
        with careless_umask():
            await server.start(ALONE)
            assert await request(state, "allow", key=KEY) is not None
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in (state, *state.iterdir())}
        assert modes.pop("server.state") == 0o700
        assert {"identity.tox", "clients.json", "control", "lock"} <= modes.keys()
        assert set(modes.values()) == {0o600}
        attempts = await run(sys.executable, "-c", ATTEMPTS, str(state), str(folder / "server.json"))
        assert (attempts.status, attempts.out) == (0, b"")
    finally:
        assert await server.stop() == 0
