"""The emulated network: two network namespaces joined by `link.c`, without a route to anywhere else.

Needs root, `ip` and a C compiler. Everything made here is removed at the end of its `with` block.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import traces
from bench.links import Link, parse
from toxproxy.demo.network import Place
from toxproxy.errors import ToxproxyError

NEAR_ADDRESS, FAR_ADDRESS = "198.18.0.1", "198.18.0.2"  # RFC 2544: reserved for benchmarks

_SOURCE = Path(__file__).with_name("link.c")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_NEEDED = ("ip", "cc", "sysctl")

_numbers = itertools.count()


class EmulatorError(ToxproxyError):
    """The network cannot be emulated on this machine. The text says what is missing."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a link has carried, by direction: `packets` and `bytes` that arrived, packets `lost`, …

    `small` packets are those of less than 200 bytes that entered: hardly more than acknowledgements.
    """

    down: dict[str, int]
    up: dict[str, int]


@dataclass(frozen=True)
class Network:
    """Two places, near and far, with a link between them. Each has its own loopback."""

    link: Link
    near: Place
    far: Place
    _emulator: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The id of the process that emulates the link."""
        return self._emulator.pid

    def cut(self) -> None:
        """Cut the link: drop every packet from now on."""
        self._emulator.send_signal(signal.SIGUSR1)

    def mend(self) -> None:
        """End a cut: carry packets again."""
        self._emulator.send_signal(signal.SIGUSR2)

    def begin_traces(self) -> None:
        """Let the rates that follow a trace begin again."""
        self._emulator.send_signal(signal.SIGHUP)

    def counts(self) -> Counts:
        """What was carried so far."""
        self._emulator.send_signal(signal.SIGQUIT)
        assert self._emulator.stdout is not None
        up, down = (_counted(self._emulator.stdout.readline()) for _ in range(2))
        return Counts(down, up)

    def end(self) -> str:
        """Remove the link. Returns what it carried, in one line for each direction."""
        self._emulator.terminate()
        return self._emulator.communicate()[0].strip()

    def use(self, control: str) -> None:
        """Set the congestion control of every TCP socket made in either place from now on."""
        _allow(control)  # again: another checkout's emulator may have ended since
        for place in (self.near, self.far):
            _run(*place.command, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={control}")


class Emulator:
    """Makes networks. A context manager; a checkout can have one at a time.

    Entering it raises `EmulatorError` if networks cannot be made here.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Emulator:
        missing = [program for program in _NEEDED if shutil.which(program) is None]
        if os.geteuid() != 0 or missing:
            what = f"the programs {', '.join(missing)}" if missing else "root, to make network namespaces"
            raise EmulatorError(f"expected {what}, found none: a network cannot be emulated")
        with self._stack:
            self._stack.enter_context(_alone())
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="toxproxy-link-"))
            self._folder = Path(folder)
            self._program = self._folder / "link"
            _run("cc", "-O2", "-std=c11", "-Wall", "-o", str(self._program), str(_SOURCE))
            self._stack.enter_context(_allowed("cubic", "bbr"))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @contextmanager
    def network(self, link: Link, seed: int = 1) -> Iterator[Network]:
        """A new network. Raises `EmulatorError` if it cannot be made."""
        name = f"toxproxy-bench-{os.getpid()}-{next(_numbers)}"
        with ExitStack() as stack:
            near, far = (stack.enter_context(_namespace(f"{name}-{end}")) for end in ("near", "far"))
            emulator = stack.enter_context(self.joined(near, far, link, seed))
            for namespace, address in ((near, NEAR_ADDRESS), (far, FAR_ADDRESS)):
                _run("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", "link")
                # Only the link's own queue may drop packets, not the device's.
                _run("ip", "-n", namespace, "link", "set", "dev", "link", "up", "txqueuelen", "4000")
                _run("ip", "-n", namespace, "link", "set", "dev", "lo", "up")
            yield Network(link, _place(near, NEAR_ADDRESS), _place(far, FAR_ADDRESS), emulator)

    @contextmanager
    def joined(self, near: str, far: str, link: Link, seed: int = 1) -> Iterator[subprocess.Popen[str]]:
        """A link between two namespaces that exist; each gets a device called "link".

        Yields the process that emulates it. Raises `EmulatorError` if it cannot be made.
        """
        with _running(str(self._program), near, far, str(seed), *self._words(link)) as process:
            yield process

    def _words(self, link: Link) -> list[str]:
        """The link as arguments of `link.c`. A trace that the project makes becomes a file."""
        for way in (link.down, link.up):
            if way.trace in traces.SHAPES:
                (self._folder / way.trace).write_text(traces.text(way.trace))
        return [self._with_file(word) for word in link.words()]

    def _with_file(self, word: str) -> str:
        key, _, name = word.partition("trace=")
        return f"{key}trace={self._folder / name}" if name in traces.SHAPES else word


def _counted(line: str) -> dict[str, int]:
    """The numbers in a line of the emulator's report, by the word that follows them."""
    return {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", line)}


def _place(namespace: str, address: str) -> Place:
    return Place(("ip", "netns", "exec", namespace), address)


@contextmanager
def _namespace(name: str) -> Iterator[str]:
    _run("ip", "netns", "add", name)
    try:
        yield name
    finally:
        _run("ip", "netns", "delete", name)


@contextmanager
def _running(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "up\n":
                raise EmulatorError("the link did not come up: expected /dev/net/tun to be usable")
            yield process
        finally:
            process.terminate()


@contextmanager
def _alone() -> Iterator[None]:
    """Hold a lock. Two emulators would disturb each other and undo each other's `sysctl` settings."""
    with _SOURCE.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmulatorError("expected no other emulated network, found one: end it first") from None
        yield


@contextmanager
def _allowed(*controls: str) -> Iterator[None]:
    """Let network namespaces use these congestion controls until the end of the block."""
    before = _ALLOWED.read_text()
    _allow(*controls)
    try:
        yield
    finally:
        _ALLOWED.write_text(before)


def _allow(*controls: str) -> None:
    _ALLOWED.write_text(" ".join(dict.fromkeys([*_ALLOWED.read_text().split(), *controls])))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulatorError(f"{' '.join(command)}: {done.stderr.strip()}")


def main() -> None:
    """Keep up a network for experiments by hand, until Ctrl-C."""
    if len(sys.argv) < 2:
        sys.exit(
            "usage: python -m bench.emulator NAME, or [down:|up:]KEY=VALUE…, or both; see bench/links.py"
        )
    try:
        link = parse(sys.argv[1:])
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell makes its background jobs ignore SIGINT
            signal.signal(number, signal.default_int_handler)
        with Emulator() as emulator, emulator.network(link) as network, suppress(KeyboardInterrupt):
            print(link)
            for name, place in (("near", network.near), ("far", network.far)):
                print(f"{name}: {' '.join(place.command)} …    # {place.address}")
            print(
                f"kill -USR1 {network.pid} cuts the link, kill -USR2 restores it, "
                "kill -HUP begins its traces again, Ctrl-C ends it",
                flush=True,
            )
            signal.pause()
    except (ValueError, EmulatorError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
