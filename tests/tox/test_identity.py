"""The secret key of a running node: how many copies of it the process has in memory."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from toxproxy.system.state import StateFolder, wiped
from toxproxy.tox.identity import IDENTITY, open_identity, save_identity
from toxproxy.tox.pytox import Tox, ToxOptions

OFFLINE = ToxOptions(udp_enabled=False, local_discovery_enabled=False)
MOST = 1 << 28  # bytes: the part of a mapping that is searched

# libtoxcore alone, started from a buffer that is wiped: the copies that are left are its own.
_ALONE = """
import sys
from toxproxy.tox.pytox import Tox, ToxOptions
with open(sys.argv[1] + "/identity.tox", "rb", buffering=0) as file:
    data = bytearray(1 << 17)
    del data[file.readinto(data):]
tox = Tox(ToxOptions(savedata_data=data, udp_enabled=False, local_discovery_enabled=False))
data[:] = bytes(len(data))
print("ready", flush=True)
sys.stdin.read()
"""

# A node that starts and lets clients in. Its identity is saved for each.
_NODE = """
import asyncio, sys
from pathlib import Path
from toxproxy.config.settings import ToxSettings
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import Node
class Nobody:
    def connection_changed(self, connection): pass
    def friend_connection_changed(self, friend, connection): pass
    def friend_request(self, key, message): pass
async def main():
    settings = ToxSettings(bootstrap=(), udp=False, local_discovery=False)
    async with Node(settings, StateFolder(Path(sys.argv[1])), "a node", Nobody()) as node:
        for number in range(20):
            node.admit_friend(bytes([number]) * 32)
        for number in range(10):
            node.remove_friend(bytes([number]) * 32)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@contextmanager
def running(script: str, *arguments: object) -> Iterator[int]:
    """Run a process until the end of the block. Yields its id once it has printed that it is ready."""
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process.pid
        finally:
            process.stdin.close()
            process.wait(10)


def copies(pid: int, needle: bytes) -> int:
    """How often `needle` occurs in the writable memory of a process (proc(5), mem)."""
    count = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match is None or "[v" in line:
                continue
            first, last = int(match[1], 16), int(match[2], 16)
            if last - first <= MOST:
                memory.seek(first)
                count += memory.read(last - first).count(needle)
    return count


def secret_key(state: StateFolder) -> bytes:
    """The secret key in the identity file. It follows the public key (Tox state format, section 1)."""
    saved = state.read(IDENTITY)
    assert saved is not None
    tox = Tox(ToxOptions(savedata_data=saved, udp_enabled=False, local_discovery_enabled=False))
    start = saved.index(bytes.fromhex(tox.self_get_public_key())) + 32
    tox.kill()
    return saved[start : start + 32]


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_running_node_has_no_copy_of_its_secret_key_but_libtoxcores(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    open_identity(Tox, OFFLINE, state).kill()
    key = secret_key(state)
    try:
        with running(_ALONE, state.path) as pid:
            own = copies(pid, key)
    except PermissionError:
        pytest.skip("may not look into another process")
    with running(_NODE, state.path) as pid:
        found = copies(pid, key)
    assert found == own > 0


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_key_that_was_just_made_leaves_no_copy_either(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    with running(_NODE, state.path) as pid:
        key = secret_key(state)
        try:
            found = copies(pid, key)
        except PermissionError:
            pytest.skip("may not look into another process")
    with running(_ALONE, state.path) as pid:
        own = copies(pid, key)
    assert found <= own


def test_an_identity_is_written_as_it_was_read(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")
    open_identity(Tox, OFFLINE, state).kill()
    before = state.read(IDENTITY)
    tox = open_identity(Tox, OFFLINE, state)
    address = tox.self_get_address()
    save_identity(tox, state)
    tox.kill()
    again = open_identity(Tox, OFFLINE, state)
    assert again.self_get_address() == address
    again.kill()
    assert before is not None
    assert len(state.read(IDENTITY) or b"") >= len(before)


def test_the_key_is_wiped_at_the_end_of_the_block_even_after_an_error() -> None:
    data = bytearray(b"secret")
    with pytest.raises(ZeroDivisionError), wiped(data):
        raise ZeroDivisionError
    assert data == bytes(6)


def test_the_repr_of_options_does_not_show_the_saved_data() -> None:
    assert "secret" not in repr(ToxOptions(savedata_data=b"secret"))
