"""Kill either end under load and start it again, many times: `python -m tests.end.kills [TIMES]`.

Each time the identity must be the same, the state folder clean, the old connections closed, and a new
connection answered. How long that takes depends on libtoxcore; the times are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median

from tests.end.world import SETTLED, ask, known_by, networking, serving
from tests.inbound.peers import Origin, echo
from toxproxy.demo import PrivateNetwork
from toxproxy.demo.network import HERE, Place, Process

Address = tuple[str, int]

LOAD = 4  # connections
AT_ONCE = 4  # pairs
AGAIN = 240  # seconds: libtoxcore may need 32 s to notice that a friend left, and minutes to find it again
_ENOUGH = 1_000_000  # bytes that each connection has carried before the kill
_PIECE = bytes(1 << 16)
_FILES = {"identity.tox", "lock", "clients.json", "control", "nodes.json", "servers.json"}

_CONFIG = """\
[tox]
bootstrap = {bootstrap}
local_discovery = no
port = 22000-22999
wait = {wait}
[access]
secret = open sesame
permit = 127.0.0.1:*
[exit]
connect_timeout = 2
"""

_CLIENT = """\
[client]
echo = 0:127.0.0.1:{echo}:{server}
endless = 0:127.0.0.1:{endless}:{server}
[socks]
browser = 0:{server}
"""


class Endless(Origin):
    """Sends without end, reads whatever comes, and counts its open connections."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.open = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        pouring = asyncio.create_task(pour(writer))
        try:
            while await reader.read(len(_PIECE)):
                pass
        finally:
            self.open -= 1
            pouring.cancel()
            await asyncio.wait((pouring,))


async def pour(writer: asyncio.StreamWriter) -> None:
    """Write until the connection is lost."""
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(_PIECE)
            await writer.drain()


class Bulk:
    """One connection to an `Endless` origin, with traffic in both directions."""

    def __init__(self) -> None:
        self.under_way = asyncio.Event()

    async def run(self, address: Address) -> bool:
        """Send and receive until the connection ends. True if it was reset."""
        reader, writer = await asyncio.open_connection(*address)
        pouring = asyncio.create_task(pour(writer))
        try:
            received = 0
            while data := await reader.read(len(_PIECE)):
                received += len(data)
                if received > _ENOUGH:
                    self.under_way.set()
            return False
        except ConnectionError:
            return True
        finally:
            pouring.cancel()
            await asyncio.wait((pouring,))
            writer.close()


class Ends:
    """A server process in `place` and a client process, which join the Tox network of `others`."""

    def __init__(self, folder: Path, others: PrivateNetwork, place: Place = HERE) -> None:
        self.server = Process("server", folder, place)
        self.client = Process("client", folder)
        self.endless, self.echo = Endless(), Origin(echo)
        self._folder, self._place, self._others = folder, place, others
        self._load: list[asyncio.Task[bool]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Ends]:
        """Run both until the end of the block, which begins when they are connected."""
        async with self.endless, self.echo:
            try:
                common = _CONFIG.format(bootstrap=known_by(self._others.server), wait=AGAIN)
                await self.server.start(common)
                ports = {"echo": self.echo.port, "endless": self.endless.port}
                await self.client.start(common + _CLIENT.format(server=self.server.ready["tox_id"], **ports))
                await self.answered()
                yield self
            finally:
                await asyncio.gather(self.client.stop(), self.server.stop())
                await self.ended()

    def process(self, side: str) -> Process:
        """The process of the server or of the client."""
        return self.server if side == "server" else self.client

    def listener(self, name: str) -> Address:
        """The address of one of the client's listeners."""
        (address,) = (entry["address"] for entry in self.client.ready["listeners"] if entry["name"] == name)
        host, _, port = address.rpartition(":")
        return host, int(port)

    async def answered(self) -> None:
        """Wait until a new connection is answered. Those made before the loss was noticed are reset."""
        async with asyncio.timeout(AGAIN):
            while True:
                with contextlib.suppress(ConnectionError):
                    assert await ask(self.listener("echo"), b"hello") == b"hello"
                    return
                await asyncio.sleep(0.2)

    async def load(self) -> None:
        """Begin connections that do not end by themselves."""
        bulks = [Bulk() for _ in range(LOAD)]
        self._load = [asyncio.create_task(bulk.run(self.listener("endless"))) for bulk in bulks]
        async with asyncio.timeout(AGAIN):
            for bulk in bulks:
                await bulk.under_way.wait()

    async def ended(self) -> list[bool]:
        """Wait until the connections of `load` have ended. Returns which of them were reset."""
        async with asyncio.timeout(AGAIN):
            resets = await asyncio.gather(*self._load)
            while self.endless.open:
                await asyncio.sleep(0.05)
        self._load = []
        return resets

    async def kill(self, side: str) -> None:
        """Kill a process without warning (SIGKILL)."""
        os.kill(self.process(side).pid, signal.SIGKILL)
        assert await self.process(side).stop() == -signal.SIGKILL

    async def restart(self, side: str) -> None:
        """Start a process again, with the files that it left."""
        left = self.process(side)
        process = Process(side, self._folder, self._place if side == "server" else HERE)
        setattr(self, side, process)
        await process.start(left.config.read_text())
        assert process.ready["tox_id"] == left.ready["tox_id"]
        assert set(os.listdir(self._folder / f"{side}.state")) <= _FILES


async def killed_and_back(ends: Ends, side: str) -> tuple[list[bool], float]:
    """Kill one side under load and start it again.

    The sides must have been connected for a while: libtoxcore is slower to find a friend again that
    left soon after it came. Returns which of the open connections were reset, and the seconds from the
    restart until a new connection was answered.
    """
    await asyncio.sleep(SETTLED)
    await ends.load()
    await ends.kill(side)
    began = time.monotonic()
    await ends.restart(side)
    await ends.answered()
    seconds = time.monotonic() - began
    return await ends.ended(), seconds


async def killed_of_pair(folder: Path, others: PrivateNetwork, side: str) -> tuple[str, list[bool], float]:
    """As `killed_and_back`, with a new pair: a second kill soon after the first is a different case."""
    os.mkdir(folder)
    async with Ends(folder, others).running() as ends:
        return side, *await killed_and_back(ends, side)


async def main(times: int) -> None:
    figures: defaultdict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.mkdir(folder / "others")
        async with serving() as services, networking(folder / "others", services) as others:
            for numbers in batched(range(times), AT_ONCE):
                kills = (
                    killed_of_pair(folder / str(number), others, ("server", "client")[number % 2])
                    for number in numbers
                )
                for side, resets, seconds in await asyncio.gather(*kills):
                    figures[side].append(seconds)
                    what = f"{sum(resets)} of {LOAD} reset, answered after {seconds:.1f} s"
                    print(f"{side} killed: {what}", flush=True)
    for side, seconds in figures.items():
        span = f"{min(seconds):.1f} to {max(seconds):.1f} s, median {median(seconds):.1f} s"
        print(f"{side} killed {len(seconds)} times: {span}")


def batched(numbers: range, size: int) -> Iterator[range]:
    return (numbers[start : start + size] for start in range(0, len(numbers), size))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.end.kills", description="Kill either end under load and start it again."
    )
    parser.add_argument("times", nargs="?", type=int, default=20, help="default: %(default)s")
    asyncio.run(main(parser.parse_args().times))
