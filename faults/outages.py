"""Outages: a download and an ssh session while the path is cut or changes.

    python -m faults.outages [ROW…]

Each row has a network of its own: a server, a client, and a third node that is the bootstrap node and
TCP relay of both. A download of 100 MB is disturbed after three seconds; it must arrive whole. In a row
whose name begins with `reverse` it goes the other way: the server listens, once it permits that by a reload.
The row reports how long after the end of the outage bytes came again and, where Tox had lost the friend, how
long after Tox had found it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import itertools
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.emulator import FAR_ADDRESS, Emulator, Network
from bench.links import WAN
from bench.program import python, running
from bench.rivals.ssh import SSHD_CONFIG, write_keys
from toxproxy.control import client as control
from toxproxy.demo.network import Process
from toxproxy.errors import ToxproxyError

SIZE = 100_000_000  # bytes
_UNDISTURBED = 3.0  # seconds before anything happens
_SETTLED = 1.0  # seconds after a cut after which packets sent before it have arrived
_LONGEST = 300.0  # seconds that a download may take, the outage not counted
_NODE_PORT, _SSHD_PORT, _REVERSE_PORT = 21000, 2222, 8080
_NEW_ADDRESS = "198.18.1.1"

# The longest outage takes ten minutes; then Tox needs time to find the friend again.
_TOX = "[tox]\nlocal_discovery = no\nbootstrap = {bootstrap}\ngrace = 900\n"
_NODE = _TOX.format(bootstrap="none") + f"port = {_NODE_PORT}-{_NODE_PORT}\ntcp_relay = {_NODE_PORT}\n"


@dataclass
class Scene:
    """A client and a server that are connected across an emulated link."""

    network: Network
    client: Process
    server: Process
    folder: Path
    reverse: bool = False

    def port(self) -> tuple[str, str]:
        """Host and port of the client's forward, or of what the server listens on for it."""
        if self.reverse:
            return "127.0.0.1", str(_REVERSE_PORT)
        host, _, port = str(self.client.ready["listeners"][0]["address"]).rpartition(":")
        return host, port

    def found_again(self, after: float) -> float | None:
        """When Tox last found the server, if that was after the time `after`."""
        found = None
        for line in self.client.log.read_text().splitlines():
            record = json.loads(line)
            at = datetime.fromisoformat(record["time"]).timestamp()
            lost = record["message"].endswith(": none")
            if record["message"].startswith("friend ") and at > after:
                found = None if lost else at
        return found


Disturb = Callable[[Scene], Awaitable[None]]


@dataclass
class Course:
    """The course of a download: how many bytes had come at which time. Times are those of `time.time`.

    The disturbance lasted from `began` to `over`. `found` is when Tox had found the server again, if it
    had lost it.
    """

    began: float = 0.0
    over: float = 0.0
    found: float | None = None
    progress: list[tuple[float, int]] = field(default_factory=list)
    whole: bool = False
    why: str = ""

    def between(self, begin: float, end: float) -> int:
        """Bytes that came between two times."""
        there = [got for at, got in self.progress if begin <= at <= end]
        return there[-1] - there[0] if there else 0

    def flows_after(self, moment: float) -> float | None:
        """Seconds from a time until bytes came. None if none came."""
        return next((at - moment for at, _ in self.progress if at > moment), None)

    def silence_after(self, moment: float) -> float:
        """The longest time without bytes from a time on, in seconds. The first bytes may be old ones."""
        times = [moment, *(at for at, _ in self.progress if at > moment)]
        return max((late - early for early, late in itertools.pairwise(times)), default=0.0)


@contextlib.asynccontextmanager
async def scene(
    emulator: Emulator, target: Callable[[Network, Path], Awaitable[int]], *, reverse: bool = False
) -> AsyncIterator[Scene]:
    """A scene. The client's forward leads to the port of the far end that `target` returns.

    With `reverse` the server listens, and what connects there leads to that port of the near end.
    """
    secret = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="toxproxy-outages-") as name, emulator.network(WAN) as network:
        folder = Path(name)
        async with contextlib.AsyncExitStack() as stack:
            # Segments as small as between real hosts. One of 64 KiB can fill the receive buffer of a TCP
            # relay that waits for the rest of a packet: then both ends wait for ever.
            _run(*network.far.command, "ip", "link", "set", "dev", "lo", "mtu", "1500")
            port = await target(network, folder)
            processes = []
            for role, where in (("node", network.far), ("server", network.far), ("client", network.near)):
                (folder / role).mkdir()
                process = Process("client" if role == "client" else "server", folder / role, where)
                stack.push_async_callback(process.stop)
                processes.append(process)
            node, server, client = processes
            await node.start(_NODE)
            tox = _TOX.format(bootstrap=f"{FAR_ADDRESS}:{_NODE_PORT}:{node.ready['dht_key']}")
            access = f"[access]\nsecret = {secret}\n"
            settings = f"{tox}{access}permit = 127.0.0.1:{port}\n"
            await server.start(settings, "-v")
            line = f"[reverse]\nforward = {_REVERSE_PORT}" if reverse else "[client]\nforward = 0"
            forward = f"{line}:127.0.0.1:{port}:{server.ready['tox_id']}\n"
            await client.start(tox + access + forward, "-v")
            await client.wait_for("ready", 60)
            if reverse:
                await _listener(client, "refused")
                key = client.ready["public_key"]
                server.config.write_text(
                    f"{settings}[client near]\nkey = {key}\nlisten = 127.0.0.1:{_REVERSE_PORT}\n"
                )
                os.kill(server.pid, signal.SIGHUP)
                await _listener(client, "listening")
            yield Scene(network, client, server, folder, reverse)


async def _listener(client: Process, state: str) -> None:
    """Wait until the client says that the server's listener for it is in this state."""
    folder = client.config.with_suffix(".state")
    async with asyncio.timeout(60):
        while True:
            status: Any = await asyncio.to_thread(control.ask, folder, "status")
            if [each["state"] for each in status["listeners"]] == [state]:
                return
            await asyncio.sleep(0.2)


async def download(emulator: Emulator, disturb: Disturb, seconds: float, *, reverse: bool = False) -> Course:
    """Run a download and disturb it after three seconds."""
    async with contextlib.AsyncExitStack() as stack:

        async def serve(network: Network, folder: Path) -> int:
            command = python("faults.transfer", "serve", str(SIZE))
            place = network.near if reverse else network.far
            return int(
                await (await stack.enter_async_context(running(place, folder, "serve", *command))).line()
            )

        there = await stack.enter_async_context(scene(emulator, serve, reverse=reverse))
        command = python("faults.transfer", "fetch", *there.port(), str(SIZE))
        place = there.network.far if reverse else there.network.near
        fetching = await stack.enter_async_context(running(place, there.folder, "fetch", *command))
        course = Course()

        async def follow() -> None:
            said: dict[str, Any] = {}
            while "whole" not in said:
                said = await fetching.result()
                course.progress.append((said["at"], said["got"]))
            course.whole, course.why = said["whole"], said["why"]

        async with asyncio.timeout(seconds + _LONGEST):
            following = asyncio.create_task(follow())
            await asyncio.sleep(_UNDISTURBED)
            course.began = time.time()
            await disturb(there)
            course.over = time.time()
            await following
        course.found = there.found_again(course.began)
        return course


# What happens to the path


def cut(seconds: float) -> Disturb:
    """A disturbance: cut the link for `seconds`."""

    async def disturb(there: Scene) -> None:
        there.network.cut()
        await asyncio.sleep(seconds)
        there.network.mend()

    return disturb


def freeze(seconds: float, *, both: bool = False) -> Disturb:
    """A disturbance: stop the client, or both ends, for `seconds` (SIGSTOP), as if the machine slept."""

    async def disturb(there: Scene) -> None:
        ends = (there.client, there.server) if both else (there.client,)
        for end in ends:
            os.kill(end.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            for end in ends:
                os.kill(end.pid, signal.SIGCONT)

    return disturb


async def block_udp(there: Scene) -> None:
    """Drop all UDP for a minute, as many hotel networks do."""
    rule = ("pref", "1", "to", "198.18.0.0/15", "ipproto", "udp", "blackhole")
    for place in (there.network.near, there.network.far):
        _run(*place.command, "ip", "rule", "add", *rule)
    await asyncio.sleep(60)
    for place in (there.network.near, there.network.far):
        _run(*place.command, "ip", "rule", "delete", *rule)


async def move(there: Scene) -> None:
    """Give the client another address, as when it changes from Wi-Fi to mobile."""
    near, far = there.network.near.command, there.network.far.command
    _run(*far, "ip", "route", "add", f"{_NEW_ADDRESS}/32", "dev", "link")
    _run(*near, "ip", "address", "flush", "dev", "link")
    _run(*near, "ip", "address", "add", f"{_NEW_ADDRESS}/32", "dev", "link")
    _run(*near, "ip", "route", "add", f"{FAR_ADDRESS}/32", "dev", "link", "src", _NEW_ADDRESS)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


# Rows


async def _download(
    name: str, emulator: Emulator, disturb: Disturb, long: float, *, reverse: bool = False
) -> bool:
    course = await download(emulator, disturb, long, reverse=reverse)
    meanwhile = course.between(course.began + _SETTLED, course.over)
    text = f"{name}: {'whole' if course.whole else f'NOT WHOLE ({course.why})'}"
    if (flows := course.flows_after(course.over)) is not None:
        text += f"; {meanwhile / 1e6:.1f} MB meanwhile; bytes again {flows:.1f} s after the outage"
        text += f", then silent for {course.silence_after(course.over):.1f} s at most"
        if course.found is not None:
            text += f", {course.over + flows - course.found:.1f} s after Tox had found the server again"
    print(text, flush=True)
    return course.whole


async def _ssh(name: str, emulator: Emulator, seconds: float, *, by_command: bool = False) -> bool:
    """Type a line into an ssh session, move the client, cut the network for `seconds`, type another line.

    `by_command`: the session goes by `toxproxy connect` instead of a forward.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def sshd(network: Network, folder: Path) -> int:
            write_keys(folder / "keys")
            (folder / "sshd_config").write_text(
                SSHD_CONFIG.format(address="127.0.0.1", port=_SSHD_PORT, folder=folder / "keys")
            )
            command = ("/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "sshd_config"))
            await stack.enter_async_context(running(network.far, folder, "sshd", *command))
            return _SSHD_PORT

        there = await stack.enter_async_context(scene(emulator, sshd))
        host, port = there.port()
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "LogLevel=ERROR",
        ]
        if by_command:
            connect = python("toxproxy", "connect", "--state", str(there.folder / "client" / "client.state"))
            options.append(f"ProxyCommand {shlex.join(connect)} %h %p")
            host, port = "127.0.0.1", str(_SSHD_PORT)
        command = ["ssh", "-F", "none", "-tt", "-i", f"{there.folder}/keys/user_key", "-p", port]
        command += [word for option in options for word in ("-o", option)]
        command += [f"{getpass.getuser()}@{host}", "stty -echo; echo ready; cat"]
        shell = await asyncio.create_subprocess_exec(
            *there.network.near.command, *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            answers = [await _read(shell, b"ready"), await _type(shell, b"before")]
            await move(there)
            answers.append(await _type(shell, b"moved"))
            there.network.cut()
            await asyncio.sleep(seconds)
            there.network.mend()
            back = time.time()
            answers.append(await _type(shell, b"after"))
            waited = time.time() - back
            state = "alive" if all(answers) else "LOST"
            print(f"{name}: {state}; answered {waited:.1f} s after the outage", flush=True)
        finally:
            with contextlib.suppress(ProcessLookupError):
                shell.kill()
            await shell.wait()
        return all(answers)


async def _type(shell: asyncio.subprocess.Process, word: bytes) -> bool:
    assert shell.stdin is not None
    shell.stdin.write(word + b"\n")
    return await _read(shell, word)


async def _read(shell: asyncio.subprocess.Process, word: bytes) -> bool:
    assert shell.stdout is not None
    async with asyncio.timeout(_LONGEST):
        while line := await shell.stdout.readline():
            if line.strip() == word:
                return True
    return False


ROWS: dict[str, Callable[[str, Emulator], Awaitable[bool]]] = {
    "ssh": lambda name, emulator: _ssh(name, emulator, 600),
    "ssh-command": lambda name, emulator: _ssh(name, emulator, 60, by_command=True),
    "cut-3": lambda name, emulator: _download(name, emulator, cut(3), 3),
    "cut-20": lambda name, emulator: _download(name, emulator, cut(20), 20),
    "cut-70": lambda name, emulator: _download(name, emulator, cut(70), 70),
    "cut-300": lambda name, emulator: _download(name, emulator, cut(300), 300),
    "no-udp": lambda name, emulator: _download(name, emulator, block_udp, 60),
    "reverse-cut-60": lambda name, emulator: _download(name, emulator, cut(60), 60, reverse=True),
    "frozen-20": lambda name, emulator: _download(name, emulator, freeze(20), 20),
    "frozen-100": lambda name, emulator: _download(name, emulator, freeze(100), 100),
    "frozen-600": lambda name, emulator: _download(name, emulator, freeze(600), 600),
    "frozen-both-100": lambda name, emulator: _download(name, emulator, freeze(100, both=True), 100),
    "frozen-both-600": lambda name, emulator: _download(name, emulator, freeze(600, both=True), 600),
    "moved": lambda name, emulator: _download(name, emulator, move, 60),
}


async def main() -> bool:
    """Run the rows that the command line names, one after the other. True if nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m faults.outages", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "rows", nargs="*", metavar="ROW", help=f"one of {', '.join(ROWS)}; default: all, an hour"
    )
    names = parser.parse_args().rows or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        parser.error(f"expected rows of {', '.join(ROWS)}, found {', '.join(unknown)}")
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    good = True
    with Emulator() as emulator:
        for name in names:
            try:
                good = await ROWS[name](name, emulator) and good
            except (ToxproxyError, TimeoutError) as error:
                print(f"{name}: FAILED: {error or 'not finished in time'}", flush=True)
                good = False
    return good


if __name__ == "__main__":
    try:
        sys.exit(0 if asyncio.run(main()) else 1)
    except ToxproxyError as error:
        sys.exit(f"faults: {error}")
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
