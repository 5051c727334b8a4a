"""UDP: a call beside a download, and as many datagrams as go through.

    origin                 in the far place: sends a call to whoever asks; prints its port
    call HOST PORT JSON    in the near place: asks for a call, prints what came of it

A call is a number of datagrams each second, each with the time when it was sent. All places are on one
machine and so have one clock, which tells the delay of one way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.figures import Bound, Figure, percentile
from bench.keystrokes import MB, SECONDS
from bench.links import FAR, WAN, Direction, Link
from bench.program import python, running
from bench.run import Outcome, Row, Run
from bench.tunnels import LOOPBACK, Course, Tunnel
from toxproxy.demo.network import PrivateNetwork

_LOSSY = Link.alike("wan-2", Direction(delay=25, loss=2, rate=100, queue=600))
_RATE, _SIZE = 100, 160  # datagrams in a second; bytes: a voice with 64 kbit/s
_LATE = 2.0  # seconds after the last one was sent
_STAMP = 16  # bytes: when it was sent, and its number


@dataclass(frozen=True, slots=True)
class Call:
    """What came: the share that was lost, and the delays of one way, in ms."""

    lost: float
    delays: tuple[float, ...]


class _Origin(asyncio.DatagramProtocol):
    """Sends a call to whoever asks. At most one at a time goes to the same address."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._calls: dict[Any, asyncio.Task[None]] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if addr not in self._calls:
            self._calls[addr] = asyncio.create_task(self._call(addr, **json.loads(data)))
            self._calls[addr].add_done_callback(lambda _: self._calls.pop(addr))

    async def _call(self, to: Any, rate: float, size: int, seconds: float) -> None:
        begin = time.monotonic()
        for number in range(round(rate * seconds)):
            if (pause := begin + number / rate - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            stamp = time.monotonic_ns().to_bytes(8) + number.to_bytes(8)
            self._transport.sendto(stamp.ljust(size, b"."), to)


class _Near(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.came: dict[int, float] = {}

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) >= _STAMP:
            delay = time.monotonic_ns() - int.from_bytes(data[:8])
            self.came.setdefault(int.from_bytes(data[8:_STAMP]), delay / 1e6)


async def _origin() -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Origin, local_addr=("0.0.0.0", 0))
    print(transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.Event().wait()


async def _called(host: str, port: int, asked: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    transport, near = await loop.create_datagram_endpoint(_Near, remote_addr=(host, port))
    for _ in range(5):  # the question may get lost
        transport.sendto(json.dumps(asked).encode())
        await asyncio.sleep(0.3)
        if near.came:
            break
    await asyncio.sleep(asked["seconds"] + _LATE)
    transport.close()
    print(json.dumps({"delays": list(near.came.values()), "sent": round(asked["rate"] * asked["seconds"])}))


async def called(
    across: Course, to: tuple[str, int], *, rate: float = _RATE, size: int = _SIZE, seconds: float
) -> Call:
    """A call from the far place to the near one, asked for at `to`."""
    asked = json.dumps({"rate": rate, "size": size, "seconds": seconds})
    command = python("bench.calls", "call", to[0], str(to[1]), asked)
    async with running(across.network.near, across.folder, "call", *command) as program:
        result = await program.result()
    delays = tuple(result["delays"])
    return Call(1 - len(delays) / result["sent"], delays)


@asynccontextmanager
async def calling(across: Course, *lines: str) -> AsyncIterator[tuple[Tunnel, PrivateNetwork, int]]:
    """toxproxy with a forward `call` to an origin of calls, and more lines below [client].

    Yields also the port of that origin.
    """
    folder = across.folder / "calls"
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        origin = await stack.enter_async_context(
            running(across.network.far, across.folder, "calls-origin", *python("bench.calls", "origin"))
        )
        port = int(await origin.line())
        forwards = [
            f"origin = 0:{LOOPBACK}:{across.port}:TOXID",
            f"call = 0:{LOOPBACK}:{port}/udp:TOXID",
            *lines,
        ]
        network = PrivateNetwork(
            folder,
            server=f"[access]\npermit = {LOOPBACK}:*/tcp+udp, {across.network.far.address}:*/udp\n",
            client="[client]\n" + "\n".join(forwards) + "\n[socks]\nproxy = 0:TOXID\n",
            places=(across.network.far, across.network.near),
        )
        await stack.enter_async_context(network)
        await network.connected()
        ends = network.client.pid, network.server.pid
        tunnel = Tunnel("toxproxy", network.listener("origin"), ends, network.listener("proxy"))
        yield await across.reached(tunnel), network, port


async def _call(run: Run, link: Link) -> Outcome:
    """A call alone, beside a download, and beside nothing and no tunnel."""
    calls: dict[str, list[Call]] = {"path": [], "alone": [], "beside": []}
    rates = []
    seconds = run.size(SECONDS)
    async for number in run.times():
        async with run.course(link, seed=number) as across, calling(across) as (tunnel, network, port):
            direct = across.network.far.address, port
            calls["path"].append(await called(across, direct, seconds=seconds))
            to = network.listener("call")
            calls["alone"].append(await called(across, to, seconds=seconds))
            async with asyncio.TaskGroup() as group:
                load = group.create_task(
                    across.work("typing", way=[tunnel.forward, None], seconds=seconds + 4, down=1, up=0)
                )
                await asyncio.sleep(2)
                call = group.create_task(called(across, to, seconds=seconds))
            calls["beside"].append(call.result())
            rates.append(sum(load.result()["down"]) / (seconds + 4) / MB)
    own = median(percentile(each.delays, 0.99) for each in calls["path"])
    figures = [Figure("download beside a call", "MB/s", tuple(rates))]
    names = {"path": "without a tunnel", "alone": "alone", "beside": "beside a download"}
    for key, name in names.items():
        bounds = (
            (Bound(2.5, at_most=True), Bound(own + 20, at_most=True)) if key == "beside" else (None, None)
        )
        figures += [
            Figure(f"call {name}, lost", "%", tuple(100 * each.lost for each in calls[key]), bounds[0]),
            Figure(f"call {name}, p50", "ms", tuple(percentile(each.delays, 0.5) for each in calls[key])),
            Figure(
                f"call {name}, p99",
                "ms",
                tuple(percentile(each.delays, 0.99) for each in calls[key]),
                bounds[1],
            ),
        ]
    return Outcome(figures)


async def _rate(run: Run, link: Link) -> Outcome:
    """Datagrams of 1,200 bytes, twice as many as go through: the rate, and how late they are."""
    rates, delays = [], []
    seconds = run.size(10)
    async for number in run.times():
        async with run.course(link, seed=number) as across, calling(across) as (_, network, _):
            call = await called(across, network.listener("call"), rate=20_000, size=1200, seconds=seconds)
            rates.append(len(call.delays) * 1200 / seconds / MB)
            delays.append(percentile(call.delays, 0.5))
    share = tuple(100 * rate * MB / (link.down.rate * 125_000) for rate in rates) if link.down.rate else ()
    figures = [
        Figure("datagrams of 1,200 bytes", "MB/s", tuple(rates)),
        Figure("their p50", "ms", tuple(delays)),
    ]
    return Outcome([Figure("datagrams", "% of the link", share, Bound(80)), *figures] if share else figures)


ROWS = (
    Row("call", "a call of 100 datagrams a second beside a download", _LOSSY, lambda run: _call(run, _LOSSY)),
    Row("udp-rate", "as many datagrams as go through", WAN, lambda run: _rate(run, WAN)),
    Row("udp-rate-far", "the same without a bottleneck", FAR, lambda run: _rate(run, FAR)),
)


def main() -> None:
    """Run in a place of the network."""
    if sys.argv[1] == "origin":
        asyncio.run(_origin())
    else:
        asyncio.run(_called(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])))


if __name__ == "__main__":
    main()
