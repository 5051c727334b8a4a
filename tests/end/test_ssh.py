"""OpenSSH through a static forward, and with `toxproxy connect` as its ProxyCommand: commands, files, git."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.end.clients import program, run
from tests.end.world import Services
from tests.machine import pseudo_terminal
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")

TWENTY = 20_000_000  # bytes

_SERVER = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""

_CLIENT = """\
Host tunnel
    HostName {host}
    Port {port}

Host command
    HostName 127.0.0.1
    Port {there}
    ProxyCommand {command} %h %p

Host *
    HostKeyAlias tunnel
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    BatchMode yes
"""


@dataclass(frozen=True)
class Ssh:
    """An ssh configuration in which the host `tunnel` is reached through a forward."""

    config: Path

    @property
    def options(self) -> list[str]:
        """The options for ssh, scp and sftp."""
        return ["-F", str(self.config), "-q"]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ssh(
    network: PrivateNetwork, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Ssh]:
    folder = tmp_path_factory.mktemp("ssh")
    for key in ("host_key", "user_key"):
        await run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key))
    (folder / "known_hosts").write_text(f"tunnel {(folder / 'host_key.pub').read_text()}")
    (folder / "sshd_config").write_text(_SERVER.format(port=services.ssh, folder=folder))
    host, port = network.listener("ssh")
    state = shlex.quote(str(network.client.config.with_name("client.state")))
    command = f"{shlex.quote(sys.executable)} -m toxproxy connect --state {state}"
    text = _CLIENT.format(host=host, port=port, folder=folder, there=services.ssh, command=command)
    (folder / "ssh_config").write_text(text)
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # Debian's sshd wants it
    # sshd executes itself again for each connection, so it needs its full path.
    server = await asyncio.create_subprocess_exec(
        program("sshd"), "-D", "-e", "-f", str(folder / "sshd_config"), stderr=asyncio.subprocess.PIPE
    )
    try:
        assert server.stderr is not None
        async with asyncio.timeout(10):
            line = await server.stderr.readline()
        assert line.startswith(b"Server listening on "), line
        yield Ssh(folder / "ssh_config")
    finally:
        with suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


async def test_a_command_runs_and_its_status_comes_back(ssh: Ssh) -> None:
    got = await run("ssh", *ssh.options, "tunnel", "tr a-z A-Z; echo done >&2; exit 7", stdin=b"hello")
    assert (got.status, got.out, got.err) == (7, b"HELLO", "done\n")


async def test_a_terminal_echoes_what_is_typed(ssh: Ssh) -> None:
    for end in pseudo_terminal():  # skips the test where sshd cannot have one either
        os.close(end)
    shell = await asyncio.create_subprocess_exec(
        program("ssh"), *ssh.options, "-tt", "tunnel", "cat; exit 3",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert shell.stdin is not None
        assert shell.stdout is not None
        async with asyncio.timeout(30):
            for word in (b"one", b"two", b"three"):
                shell.stdin.write(word + b"\n")
                # Once by the echo of the terminal, once by cat.
                assert await shell.stdout.readline() == word + b"\r\n"
                assert await shell.stdout.readline() == word + b"\r\n"
            shell.stdin.write(b"\x04")
            assert await shell.wait() == 3
    finally:
        if shell.returncode is None:
            shell.kill()
            await shell.wait()


async def test_a_file_is_copied_there_and_back_unchanged(ssh: Ssh, tmp_path: Path) -> None:
    here, there, back = (tmp_path / name for name in ("here", "there", "back"))
    here.write_bytes(os.urandom(TWENTY))
    assert (await run("scp", *ssh.options, str(here), f"tunnel:{there}")).status == 0
    assert (await run("scp", *ssh.options, f"tunnel:{there}", str(back))).status == 0
    assert there.read_bytes() == here.read_bytes()
    assert back.read_bytes() == here.read_bytes()


async def test_a_command_runs_by_the_proxy_command(ssh: Ssh) -> None:
    got = await run("ssh", *ssh.options, "command", "tr a-z A-Z; echo done >&2; exit 7", stdin=b"hello")
    assert (got.status, got.out, got.err) == (7, b"HELLO", "done\n")


async def test_a_file_is_copied_by_the_proxy_command(ssh: Ssh, tmp_path: Path) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    here.write_bytes(os.urandom(TWENTY))
    assert (await run("scp", *ssh.options, str(here), f"command:{there}")).status == 0
    assert there.read_bytes() == here.read_bytes()


async def test_rsync_by_the_proxy_command(ssh: Ssh, tmp_path: Path) -> None:
    here, there = (tmp_path / name for name in ("here", "there"))
    here.write_bytes(os.urandom(TWENTY))
    got = await run("rsync", "-e", shlex.join(["ssh", *ssh.options]), str(here), f"command:{there}")
    assert got.status == 0, got.err
    assert there.read_bytes() == here.read_bytes()


async def test_a_repository_is_cloned_by_the_proxy_command(ssh: Ssh, tmp_path: Path) -> None:
    there, here = tmp_path / "there", tmp_path / "here"
    await run("git", "init", "-q", str(there))
    git = ("-C", str(there), "-c", "user.name=x", "-c", "user.email=x@example.org")
    assert (await run("git", *git, "commit", "-q", "--allow-empty", "-m", "first")).status == 0
    shell = f"core.sshCommand={shlex.join(['ssh', *ssh.options])}"
    got = await run("git", "-c", shell, "clone", "-q", f"command:{there}", str(here))
    assert got.status == 0, got.err
    assert (await run("git", "-C", str(here), "log", "--format=%s")).out == b"first\n"
