"""The emulated network: two namespaces, joined by `link.c`, that nothing leaves.

Needs root, `ip` and a C compiler. What is made here is removed with the block it was made for.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.links import Link, parse
from toxproxy.demo.network import Place
from toxproxy.errors import ToxproxyError

NEAR_ADDRESS, FAR_ADDRESS = "198.18.0.1", "198.18.0.2"  # RFC 2544: for benchmarks, routed nowhere

_SOURCE = Path(__file__).with_name("link.c")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_NEEDED = ("ip", "cc", "sysctl")

_numbers = itertools.count()


class EmulatorError(ToxproxyError):
    """The network cannot be emulated here; the text says what is missing."""


@dataclass(frozen=True)
class Network:
    """Two places with a link between them, and nothing else. Each has its own loopback."""

    link: Link
    near: Place
    far: Place
    _emulator: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        """The process that is the link."""
        return self._emulator.pid

    def cut(self) -> None:
        """Drop everything from now on."""
        self._emulator.send_signal(signal.SIGUSR1)

    def mend(self) -> None:
        """Let everything through again."""
        self._emulator.send_signal(signal.SIGUSR2)

    def end(self) -> str:
        """Take the link away; says what went through it, a line for each direction."""
        self._emulator.terminate()
        return self._emulator.communicate()[0].strip()

    def use(self, control: str) -> None:
        """Give every TCP socket that is made in either place from now on this congestion control."""
        for place in (self.near, self.far):
            _run(*place.command, "sysctl", "-qw", f"net.ipv4.tcp_congestion_control={control}")


class Emulator:
    """Makes networks; a context manager, of which a checkout can have one at a time.

    Entering raises `EmulatorError`.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Emulator:
        missing = [program for program in _NEEDED if shutil.which(program) is None]
        if os.geteuid() != 0 or missing:
            what = f"the programs {', '.join(missing)}" if missing else "root, to make network namespaces"
            raise EmulatorError(f"expected {what} to emulate a network, found none")
        with self._stack:
            self._stack.enter_context(_alone())
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="toxproxy-link-")))
            self._program = folder / "link"
            _run("cc", "-O2", "-std=c11", "-Wall", "-o", str(self._program), str(_SOURCE))
            self._stack.enter_context(_allowed("cubic", "bbr"))
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @contextmanager
    def network(self, link: Link, seed: int = 1) -> Iterator[Network]:
        """A network of its own. Raises `EmulatorError`."""
        name = f"toxproxy-bench-{os.getpid()}-{next(_numbers)}"
        with ExitStack() as stack:
            near, far = (stack.enter_context(_namespace(f"{name}-{end}")) for end in ("near", "far"))
            path = (link.delay, link.loss, link.rate, link.queue)
            numbers = (*path, link.duplication, link.reordering, link.corruption, seed)
            emulator = stack.enter_context(_running(str(self._program), near, far, *map(str, numbers)))
            for namespace, address in ((near, NEAR_ADDRESS), (far, FAR_ADDRESS)):
                _run("ip", "-n", namespace, "address", "add", f"{address}/30", "dev", "link")
                # The device's own queue must not be what drops packets.
                _run("ip", "-n", namespace, "link", "set", "dev", "link", "up", "txqueuelen", "4000")
                _run("ip", "-n", namespace, "link", "set", "dev", "lo", "up")
            yield Network(link, _place(near, NEAR_ADDRESS), _place(far, FAR_ADDRESS), emulator)


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
    """Two at a time would disturb each other, and take back what the other allowed."""
    with _SOURCE.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmulatorError("expected no other emulated network, found one: end that first") from None
        yield


@contextmanager
def _allowed(*controls: str) -> Iterator[None]:
    """Let namespaces use these congestion controls, for as long as the block takes."""
    before = _ALLOWED.read_text()
    _ALLOWED.write_text(" ".join(dict.fromkeys([*before.split(), *controls])))
    try:
        yield
    finally:
        _ALLOWED.write_text(before)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EmulatorError(f"{' '.join(command)}: {done.stderr.strip()}")


def main() -> None:
    """Keep a network for trying things by hand, until Ctrl-C."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m bench.emulator LINK, by name or as DELAY/LOSS/RATE/QUEUE")
    try:
        link = parse(sys.argv[1])
        for number in (signal.SIGINT, signal.SIGTERM):  # a shell has its background jobs ignore the first
            signal.signal(number, signal.default_int_handler)
        with Emulator() as emulator, emulator.network(link) as network, suppress(KeyboardInterrupt):
            print(link)
            for name, place in (("near", network.near), ("far", network.far)):
                print(f"{name}: {' '.join(place.command)} …    # {place.address}")
            print(f"kill -USR1 {network.pid} cuts it, -USR2 mends it, Ctrl-C ends it", flush=True)
            signal.pause()
    except (ValueError, EmulatorError) as error:
        sys.exit(f"bench: {error}")


if __name__ == "__main__":
    main()
