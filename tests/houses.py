"""Machines on which commands are typed as a user types them, on a terminal. Nothing leaves them.

`home` and `laptop` are on one network, with `neighbour`, a node of Tox: in a network of only two ends,
one that was restarted may not be found again. Behind `home` is another network, with names that only `home`
knows; all of them are one machine, `behind`. The user is `me` everywhere, with a home folder of a few files.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.end.clients import program

PATIENCE = 90.0  # seconds
HOME, LAPTOP, NEIGHBOUR = "192.168.77.1", "192.168.77.2", "192.168.77.3"
#: What is behind the home. The last address is one of the internet, elsewhere.
NAMES = {
    "printer.lan": "10.0.0.30",
    "wiki.lan": "10.0.0.7",
    "nas.lan": "10.0.0.8",
    "git.lan": "10.0.0.9",
    "desktop.lan": "10.0.0.10",
    "example.org": "93.184.216.34",
}
NAMELESS = ("192.168.1.1", "192.168.1.20")

_INSIDE = """
set -e
for name in hosts passwd resolv.conf; do mount --bind {folder}/$name /etc/$name; done
for name in run var/log; do mount -t tmpfs none /$name; done
mkdir -p /run/sshd /run/user/1000
ip link set lo up
{commands}
echo made
exec sleep infinity
"""
_ERASE = "\r\x1b[K"  # as `program.logs` erases a status line


class Typed:
    """A line that was typed, and what the terminal shows of it."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process = process
        self._terminal = terminal
        self._said = b""
        self._reading = asyncio.create_task(self._read())

    @property
    def said(self) -> str:
        """What it has said so far. A status line that was erased is one more line."""
        return self._text().replace(_ERASE, "\n")

    @property
    def shown(self) -> str:
        """What the terminal shows by now: what was erased is gone."""
        return re.sub(rf"[^\n]*{re.escape(_ERASE)}", "", self._text())

    def _text(self) -> str:
        return self._said.decode(errors="replace").replace("\r\n", "\n")

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            arrived = loop.create_future()
            loop.add_reader(self._terminal, lambda: arrived.done() or arrived.set_result(None))  # noqa: B023
            try:
                await arrived
                more = os.read(self._terminal, 65536)
            except OSError:  # EIO: nobody has the terminal any more
                return
            finally:
                loop.remove_reader(self._terminal)
            if not more:
                return
            self._said += more

    def answer(self, text: str) -> None:
        """Type something into it."""
        os.write(self._terminal, text.encode())

    async def until(self, pattern: str, since: int = 0) -> re.Match[str]:
        """Wait until it has said something, from a place on in `said`."""
        end = time.monotonic() + PATIENCE
        while not (found := re.compile(pattern, re.MULTILINE).search(self.said, since)):
            assert not self._reading.done(), self.said
            assert time.monotonic() < end, self.said
            await asyncio.sleep(0.02)
        return found

    async def ended(self) -> int:
        """Wait until it has ended by itself. Returns its exit status."""
        async with asyncio.timeout(PATIENCE):
            await self._reading
            return await self.process.wait()

    async def end(self) -> None:
        """End it, as Ctrl-C does."""
        if self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGINT)
            try:
                async with asyncio.timeout(20):
                    await self.process.wait()
            except TimeoutError:
                os.killpg(self.process.pid, signal.SIGKILL)
                await self.process.wait()
        self._reading.cancel()
        await asyncio.wait([self._reading])
        if self._terminal >= 0:
            os.close(self._terminal)
            self._terminal = -1


@dataclass
class Machine:
    """A machine. `home` is the folder of the user `me`, in which commands are typed."""

    name: str
    home: Path
    holder: subprocess.Popen[str]
    environment: dict[str, str] = field(default_factory=dict)

    async def start(self, line: str) -> Typed:
        """Type a line. Who types it ends it."""
        terminal, its = os.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        place = ("nsenter", f"--target={self.holder.pid}", "--net", "--mount", "setsid", "--ctty")
        kept = {name: os.environ[name] for name in ("LANG", "TOXPROXY_LIBTOXCORE") if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *place, "sh", "-c", f"cd {shlex.quote(str(self.home))} && {line}",
                stdin=its, stdout=its, stderr=its,
                env={**kept, **self.environment, "HOME": str(self.home), "TERM": "xterm"},
            )  # fmt: skip
        finally:
            os.close(its)
        return Typed(process, terminal)

    async def type(self, line: str, asks: str = "", answer: str = "") -> tuple[int, str]:
        """Type a line, and an answer when it asks. Returns its exit status and what it said."""
        typed = await self.start(line)
        try:
            if asks:
                await typed.until(asks)
                typed.answer(answer)
            return await typed.ended(), typed.shown
        finally:
            await typed.end()

    async def well(self, line: str) -> str:
        """Type a line that must end well. Returns what it said."""
        status, said = await self.type(line)
        assert status == 0, f"{self.name}$ {line}\n{said}"
        return said


def _machine(name: str, folder: Path, names: dict[str, str], commands: Iterable[str]) -> Machine:
    home, system = folder / name, folder / f"{name}.system"
    home.mkdir()
    (system / "bin").mkdir(parents=True)
    toxproxy = system / "bin" / "toxproxy"
    toxproxy.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m toxproxy "$@"\n')
    toxproxy.chmod(0o755)
    known = "".join(f"{address} {each}\n" for each, address in names.items())
    (system / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
    users = "".join(
        f"{user}:x:{os.geteuid()}:{os.getegid()}::{place}:/bin/sh\n"
        for user, place in (("me", home), ("git", home / "git"))
    )
    (system / "passwd").write_text(users + Path("/etc/passwd").read_text())
    (system / "resolv.conf").write_text("")
    script = _INSIDE.format(folder=shlex.quote(str(system)), commands="\n".join(commands))
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "made\n", f"{name} cannot be made"
    path = f"{system / 'bin'}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return Machine(name, home, holder, {"PATH": path, "PYTHONPATH": os.getcwd()})


@dataclass(frozen=True)
class Houses:
    """The machines on which something is typed, and the neighbour's node, as `[tox] bootstrap` names it."""

    home: Machine
    laptop: Machine
    node: str


@asynccontextmanager
async def houses(folder: Path) -> AsyncIterator[Houses]:
    """All machines. Needs root and namespaces."""
    made: list[Machine] = []
    addresses = [*NAMES.values(), *NAMELESS]
    try:
        behind = _machine("behind", folder, NAMES, (f"ip addr add {each}/32 dev lo" for each in addresses))
        made.append(behind)
        home = _machine("home", folder, NAMES, ())
        made.append(home)
        laptop = _machine("laptop", folder, {}, ())
        made.append(laptop)
        neighbour = _machine("neighbour", folder, {}, ("ip link add lan type bridge", "ip link set lan up"))
        made.append(neighbour)
        _ip(neighbour, f"addr add {NEIGHBOUR}/24 brd + dev lan")
        for machine, address in ((home, HOME), (laptop, LAPTOP)):
            _lay(machine, "lan", address, neighbour, machine.name)
            _ip(neighbour, f"link set {machine.name} master lan")
            _ip(neighbour, f"link set {machine.name} up")
        _lay(home, "house", "10.0.0.1", behind, "house")
        _ip(behind, "addr add 10.0.0.2/24 dev house")
        _ip(behind, "link set house up")
        for address in addresses:
            _ip(home, f"route add {address} via 10.0.0.2")
        async with AsyncExitStack() as stack:
            await _furnish(home, behind, laptop)
            for machine, served in ((home, "8000 127.0.0.1"), (behind, f"80,443 {' '.join(NAMELESS)}")):
                sshd = await machine.start(f"exec {program('sshd')} -D -e -f sshd_config")
                stack.push_async_callback(sshd.end)
                serving = f"{shlex.quote(sys.executable)} -m tests.household . {served}"
                services = await machine.start(f"exec {serving}")
                stack.push_async_callback(services.end)
                await sshd.until("^Server listening on ")
                await services.until("^ready$")
            (neighbour.home / "node.ini").write_text(_NODE)
            node = await neighbour.start("exec toxproxy server node.ini --ready-file node.json")
            stack.push_async_callback(node.end)
            await node.until("Tox ID")
            key = json.loads((neighbour.home / "node.json").read_text())["dht_key"]
            yield Houses(home, laptop, f"{NEIGHBOUR}:33445:{key}")
    finally:
        for machine in made:
            machine.holder.kill()
            machine.holder.wait()


def _lay(machine: Machine, name: str, address: str, other: Machine, its: str) -> None:
    """Lay a cable between two machines, and give the first one an address there."""
    _ip(machine, f"link add {name} type veth peer name {its} netns {other.holder.pid}")
    _ip(machine, f"addr add {address}/24 brd + dev {name}")
    _ip(machine, f"link set {name} up")


def _ip(machine: Machine, command: str) -> None:
    place = ["nsenter", f"--target={machine.holder.pid}", "--net", "ip"]
    subprocess.run([*place, *command.split()], check=True, capture_output=True, timeout=20)


_SSHD = """\
HostKey {home}/host_key
AuthorizedKeysFile {home}/.ssh/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
PrintMotd no
Subsystem sftp internal-sftp
"""
_NODE = "[tox]\nbootstrap = none\nport = 33445-33445\ntcp_relay = 33445\n"
_GIT = "git -c user.name=me -c user.email=me@example.org -C work"


async def _furnish(home: Machine, behind: Machine, laptop: Machine) -> None:
    """Keys, a certificate, a page, a repository, and files to copy."""
    key = "ssh-keygen -q -t ed25519 -N '' -f"
    names = ",".join(f"DNS:{name}" for name in NAMES)
    await laptop.well(
        f"mkdir -m 700 .ssh && {key} .ssh/id_ed25519 && {key} host_key && mkdir photos web && "
        "echo a note >notes.txt && echo a picture >photos/one.jpg && "
        "echo a page of the home >web/index.html && "
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=home "
        f"-addext subjectAltName={names} -keyout key.pem -out cert.pem && cat key.pem >>cert.pem && "
        f"git init -q work && {_GIT} commit -q --allow-empty -m first && mkdir -p git/me && "
        "git clone -q --bare work git/me/project.git && git -C git/me/project.git update-server-info"
    )
    key = (laptop.home / "host_key.pub").read_text()
    known = (HOME, "[localhost]:2222", "nas.lan", "git.lan")
    (laptop.home / ".ssh" / "known_hosts").write_text("".join(f"{name} {key}" for name in known))
    for machine in (home, behind):
        for name in ("cert.pem", "host_key"):
            shutil.copy(laptop.home / name, machine.home / name)
        (machine.home / ".ssh").mkdir(mode=0o700)
        shutil.copy(laptop.home / ".ssh" / "id_ed25519", machine.home / ".ssh")
        shutil.copy(laptop.home / ".ssh" / "known_hosts", machine.home / ".ssh")
        shutil.copy(laptop.home / ".ssh" / "id_ed25519.pub", machine.home / ".ssh" / "authorized_keys")
        shutil.copytree(laptop.home / "web", machine.home / "web")
        shutil.copytree(laptop.home / "git", machine.home / "git")
        (machine.home / "web" / "me").symlink_to("../git/me")
        (machine.home / "sshd_config").write_text(_SSHD.format(home=machine.home))
    certificate = str(laptop.home / "cert.pem")
    laptop.environment |= {"CURL_CA_BUNDLE": certificate, "GIT_SSL_CAINFO": certificate}
