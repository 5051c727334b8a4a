"""UDP: a call beside a download, and as many datagrams as go through.

    origin PORT            in the far place: sends a call to whoever asks; prints its port
    call HOST PORT JSON    in the near place: asks for a call, prints what came of it

A call is a number of datagrams each second, each with the time when it was sent. All places are on one
machine and so have one clock, which tells the delay of one way.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from bench.figures import Bound, Figure, percentile
from bench.keystrokes import MB, SECONDS, Typed, typed
from bench.links import FAR, WAN, Direction, Link
from bench.program import python, running
from bench.run import Outcome, Row, Run
from bench.tunnels import LOOPBACK, Course, Tunnel
from toxproxy.demo.network import PrivateNetwork

_LOSSY = Link.alike("wan-2", Direction(delay=25, loss=2, rate=100, queue=600))
_RATE, _SIZE = 100, 160  # datagrams in a second; bytes: a voice with 64 kbit/s
_LATE = 2.0  # seconds after the last one was sent
_LOST, _MORE = 2.5, 20  # %; ms more than the path's own p99
_RATE_SHARE = 80  # % of the link
_WIREGUARD = "WireGuard (bbr)"
_RIVALS = (_WIREGUARD, "ssh -w (bbr)", "iroh")  # those that carry datagrams
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


async def _origin(port: int) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_Origin, local_addr=("0.0.0.0", port))
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
async def calling(across: Course, *lines: str) -> AsyncIterator[Tunnel]:
    """toxproxy with a UDP forward to the origin's port, and more lines below [client]."""
    folder = across.folder / "calls"
    folder.mkdir(exist_ok=True)
    forwards = [
        f"origin = 0:{LOOPBACK}:{across.port}:TOXID",
        f"call = 0:{LOOPBACK}:{across.port}/udp:TOXID",
        *lines,
    ]
    network = PrivateNetwork(
        folder,
        server=f"[access]\npermit = {LOOPBACK}:*/tcp+udp, {across.network.far.address}:*/udp\n",
        client="[client]\n" + "\n".join(forwards) + "\n[socks]\nproxy = 0:TOXID\n",
        places=(across.network.far, across.network.near),
    )
    async with network:
        await network.connected()
        forward, socks, call = map(network.listener, ("origin", "proxy", "call"))
        ends = network.client.pid, network.server.pid
        yield await across.reached(Tunnel("toxproxy", forward, ends, socks, call))


@asynccontextmanager
async def _answered(across: Course) -> AsyncIterator[None]:
    """With an origin of calls at the UDP port that is that of the origin."""
    command = python("bench.calls", "origin", str(across.port))
    async with running(across.network.far, across.folder, "calls-origin", *command) as origin:
        await origin.line()
        yield


@dataclass
class _Calls:
    """Of one program: calls beside a download, and what the download and the keystrokes got meanwhile."""

    calls: list[Call] = field(default_factory=list)
    loads: list[Typed] = field(default_factory=list)

    async def add(self, across: Course, tunnel: Tunnel, seconds: float) -> None:
        """Measure."""
        assert tunnel.datagrams is not None
        async with asyncio.TaskGroup() as group:
            load = group.create_task(typed(across, tunnel, seconds + 4))
            await asyncio.sleep(2)
            call = group.create_task(called(across, tunnel.datagrams, seconds=seconds))
        self.calls.append(call.result())
        self.loads.append(load.result())

    def figures(self, name: str, bounds: tuple[Bound | None, Bound | None] = (None, None)) -> list[Figure]:
        """`bounds` are for what is lost and for the p99."""
        return [
            Figure(f"{name}, a call beside a download, lost", "%", _lost(self.calls), bounds[0]),
            Figure(f"{name}, a call beside a download, p50", "ms", _delays(self.calls, 0.5)),
            Figure(f"{name}, a call beside a download, p99", "ms", _delays(self.calls, 0.99), bounds[1]),
            Figure(f"{name}, the download", "MB/s", tuple(load.down for load in self.loads)),
            Figure(f"{name}, p95 of a keystroke", "ms", tuple(load.p95 for load in self.loads)),
        ]


def _lost(calls: list[Call]) -> tuple[float, ...]:
    return tuple(100 * each.lost for each in calls)


def _delays(calls: list[Call], share: float) -> tuple[float, ...]:
    return tuple(percentile(each.delays, share) for each in calls)


async def _call(run: Run, link: Link) -> Outcome:
    """A call without a tunnel, through one alone, and beside a download; rivals once."""
    path: list[Call] = []
    alone: list[Call] = []
    beside: defaultdict[str, _Calls] = defaultdict(_Calls)
    seconds = run.size(SECONDS)
    async for number in run.times():
        async with run.course(link, seed=number) as across, _answered(across), calling(across) as tunnel:
            assert tunnel.datagrams is not None
            direct = across.network.far.address, across.port
            path.append(await called(across, direct, seconds=seconds))
            alone.append(await called(across, tunnel.datagrams, seconds=seconds))
            await beside["toxproxy"].add(across, tunnel, seconds)
        for name in _RIVALS if number == 1 else ():
            if name not in run.rivals:
                continue
            async with run.tunnel(link, name, number) as (across, rival):
                if rival is not None:
                    async with _answered(across):
                        await beside[name].add(across, rival, seconds)
    figures: list[Figure] = []
    for what, calls in (("without a tunnel", path), ("alone", alone)):
        figures += [
            Figure(f"a call {what}, lost", "%", _lost(calls)),
            Figure(f"a call {what}, p50", "ms", _delays(calls, 0.5)),
            Figure(f"a call {what}, p99", "ms", _delays(calls, 0.99)),
        ]
    latest = median(_delays(path, 0.99)) + _MORE
    bounds = Bound(_LOST, at_most=True), Bound(latest, at_most=True)
    for name, measured in beside.items():
        figures += measured.figures(name, *((bounds,) if name == "toxproxy" else ()))
    return Outcome(figures)


async def _rate(run: Run, link: Link) -> Outcome:
    """Datagrams of 1,200 bytes, more than go through: the rate, and how late they are."""
    calls: defaultdict[str, list[Call]] = defaultdict(list)
    seconds = run.size(10)

    async def measure(across: Course, tunnel: Tunnel) -> None:
        assert tunnel.datagrams is not None
        async with _answered(across):
            call = await called(across, tunnel.datagrams, rate=20_000, size=1200, seconds=seconds)
        calls[tunnel.name].append(call)

    async for number in run.times():
        async with run.course(link, seed=number) as across, calling(across) as tunnel:
            await measure(across, tunnel)
        if number == 1 and _WIREGUARD in run.rivals:
            async with run.tunnel(link, _WIREGUARD, number) as (across, rival):
                if rival is not None:
                    await measure(across, rival)
    figures = []
    for name, measured in calls.items():
        rates = tuple(len(call.delays) * 1200 / seconds / MB for call in measured)
        if link.capacity:
            share = tuple(100 * rate / link.capacity for rate in rates)
            bound = Bound(_RATE_SHARE) if name == "toxproxy" else None
            figures.append(Figure(f"{name}, datagrams", "% of the link", share, bound))
        figures += [
            Figure(f"{name}, datagrams of 1,200 bytes", "MB/s", rates),
            Figure(f"{name}, their p50", "ms", _delays(measured, 0.5)),
        ]
    return Outcome(figures)


ROWS = (
    Row(
        "call", "a call of 100 datagrams a second beside a download", _LOSSY, partial(_call, link=_LOSSY), 900
    ),
    Row("udp-rate", "as many datagrams as go through", WAN, partial(_rate, link=WAN)),
    Row("udp-rate-far", "the same without a bottleneck", FAR, partial(_rate, link=FAR)),
)


def main() -> None:
    """Run in a place of the network."""
    if sys.argv[1] == "origin":
        asyncio.run(_origin(int(sys.argv[2])))
    else:
        asyncio.run(_called(sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])))


if __name__ == "__main__":
    main()
