"""A server and a client, two processes on a Tox network of their own, on loopback.

Nothing leaves the machine: there are no bootstrap nodes and no local discovery. The demonstration, tests
and benchmarks use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from toxproxy.errors import ToxproxyError
from toxproxy.system import processes

_START_SECONDS = 90.0  # one, on a machine that is not busy
_STOP_SECONDS = 15.0  # an idle process needs a tenth, on a machine that is not busy
_TAIL_LINES = 20  # of each log, kept for people
_LINE_BYTES = 1 << 20  # the longest line of a log

_PRIVATE = """\
[tox]
bootstrap = {bootstrap}
local_discovery = no
port = 21000-21999
[access]
secret = {secret}
"""


class ProcessFailed(ToxproxyError):
    """A process ended, or did not report an event in time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: the beginning of its command line, and the address at which others reach it."""

    command: tuple[str, ...] = ()
    address: str = "127.0.0.1"


HERE = Place()


class Process:
    """One toxproxy process and its log.

    Its configuration, state folder, ready file and log are in `folder` and begin with its name.
    """

    def __init__(self, name: str, folder: Path, place: Place = HERE) -> None:
        self.name = name
        self.config = folder / f"{name}.ini"
        self.log = folder / f"{name}.log"
        #: The content of the ready file.
        self.ready: dict[str, Any] = {}
        #: The last lines of the log, for people.
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._folder = folder
        self._place = place
        self._process: asyncio.subprocess.Process | None = None
        self._events: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._following: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    async def start(self, config: str, *options: str) -> None:
        """Run `toxproxy NAME` until it is ready. Raises `ProcessFailed`."""
        self.config.touch(mode=0o600)  # there is a secret in it
        self.config.write_text(config)
        ready = self._folder / f"{self.name}.json"
        # -P: Python files in the current folder must not shadow the installed ones.
        python = (sys.executable, "-P", "-m")
        command = [*self._place.command, *python, "toxproxy", self.name, str(self.config)]
        command += ["--log-format", "json", *options]
        command += ["--state", str(self._folder / f"{self.name}.state"), "--ready-file", str(ready)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            **processes.APART,  # Ctrl-C reaches only the parent, which then calls `stop`
        )
        self._following = asyncio.create_task(self._follow(), name=f"log of the {self.name}")
        await self.wait_for("started", _START_SECONDS)
        self.ready = json.loads(ready.read_text())

    async def wait_for(self, event: str, seconds: float) -> None:
        """Wait until the log has an `event`; see `JsonFormatter`. Raises `ProcessFailed`."""
        assert self._following is not None
        waiting = asyncio.create_task(self._events[event].wait())
        try:
            await asyncio.wait(
                (waiting, self._following), timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
        if not self._events[event].is_set():
            after = "before its end" if self._following.done() else f"within {seconds:g} s"
            raise ProcessFailed(f"the {self.name} did not report {event!r} {after}")

    async def stop(self, seconds: float = _STOP_SECONDS) -> int | None:
        """End the process, by force after `seconds`. Returns its exit status, None if it never started."""
        if self._process is None:
            return None
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # Not terminate(): that may reap a child that has just ended, and lose its exit status.
                processes.end(self._process.pid)
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        if self._following is not None:
            await self._following
        return self._process.returncode

    async def _follow(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        with self.log.open("wb", buffering=0) as file:
            async for line in self._process.stderr:
                file.write(line)
                self._note(line)

    def _note(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        try:
            record = json.loads(text)
        except ValueError:
            self.tail.append(text)  # not a record: a traceback from the interpreter itself
            return
        self.tail.append(f"{record['level'].lower()}: {record['message']}")
        if "event" in record:
            self._events[record["event"]].set()


class PrivateNetwork:
    """An asynchronous context manager in which a server and a client run.

    `server` and `client` are configuration texts. `[tox]` and `[access] secret` are added to both, and
    TOXID in the client's becomes the server's Tox ID. `options` are added to both command lines.
    `places` are those of the server and of the client. The files of the processes stay in `folder`.

    Entering raises `ProcessFailed`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        server: str = "",
        client: str,
        options: tuple[str, ...] = (),
        places: tuple[Place, Place] = (HERE, HERE),
    ) -> None:
        self.server = Process("server", folder, places[0])
        self.client = Process("client", folder, places[1])
        self._address = places[0].address
        self._configs = server, client
        self._options = options
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def _start(self) -> None:
        server, client = self._configs
        secret = secrets.token_hex(16)
        self._stack.push_async_callback(self.server.stop)
        private = _PRIVATE.format(bootstrap="none", secret=secret)
        await self.server.start(f"{private}{server}", *self._options)
        known = self.server.ready
        node = f"{self._address}:{known['udp_port']}:{known['dht_key']}"
        self._stack.push_async_callback(self.client.stop)
        private = _PRIVATE.format(bootstrap=node, secret=secret)
        await self.client.start(private + client.replace("TOXID", known["tox_id"]), *self._options)

    async def connected(self, seconds: float = 60.0) -> None:
        """Wait until the two have found each other, which takes about 10 s. Raises `ProcessFailed`."""
        await self.client.wait_for("ready", seconds)

    def listener(self, name: str) -> tuple[str, int]:
        """The address of one of the client's IPv4 listeners, by its name in the configuration."""
        (address,) = (entry["address"] for entry in self.client.ready["listeners"] if entry["name"] == name)
        host, _, port = address.rpartition(":")
        return host, int(port)

    def tails(self) -> str:
        """The last lines of both logs."""
        processes = (self.server, self.client)
        return "\n".join(f"{process.name}: {line}" for process in processes for line in process.tail)
