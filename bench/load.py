"""The near end of every measurement: a client that uses a tunnel and reports the result.

Run as `python -m bench.load WORK ARGUMENTS`. The arguments are a JSON object; the result is printed as
another one. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from python_socks import ProxyError

from bench.transfers import RANDOM, Download, Keys, Upload, Way

_SMALL_BUFFER = 4096  # bytes: the receive buffer of a client that does not read
_LOOK_SECONDS = 0.01

Result = dict[str, Any]


async def reach(way: Way, seconds: float) -> Result:
    """Wait until the origin answers, for at most `seconds`."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                async with asyncio.timeout(2):
                    await Download(way, 1).run()
                return {}
            except (OSError, ProxyError):
                await asyncio.sleep(0.1)


async def download(way: Way, size: int, seconds: float, what: str = "send") -> Result:
    """Fetch `size` bytes, or as many as come within `seconds`."""
    began, transfer = time.perf_counter(), Download(way, size, what)
    try:
        async with asyncio.timeout(seconds):
            await transfer.run()
    except TimeoutError:
        pass
    return {"bytes": transfer.got, "seconds": time.perf_counter() - began}


async def upload(way: Way, size: int, seconds: float) -> Result:
    """Send `size` bytes and wait until the origin has received all of them."""
    loop, left = asyncio.get_running_loop(), size
    began = time.perf_counter()
    async with asyncio.timeout(seconds):
        with await way.ask("take") as sock:
            while left:
                piece = memoryview(RANDOM)[: min(left, len(RANDOM))]
                await loop.sock_sendall(sock, piece)
                left -= len(piece)
            sock.shutdown(socket.SHUT_WR)
            got = int(await loop.sock_recv(sock, 64) or 0)
    if got != size:
        raise ConnectionError(f"cut short: {got} of {size} bytes")
    return {"bytes": got, "seconds": time.perf_counter() - began}


async def page(way: Way, objects: int, size: int, at_once: int) -> Result:
    """Fetch many objects, each on a connection of its own, `at_once` at a time."""
    times: list[float] = []
    left = iter(range(objects))

    async def fetch() -> None:
        for _ in left:
            began = time.perf_counter()
            await Download(way, size).run()
            times.append(time.perf_counter() - began)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(fetch())
    return {"seconds": time.perf_counter() - began, "times": times}


async def keys(way: Way) -> Result:
    """Type until the input ends."""
    typed = Keys(way)
    task = asyncio.create_task(typed.run())
    await asyncio.to_thread(sys.stdin.read)
    result = {"times": typed.times}
    await _cancel([task])
    return result


async def typing(way: Way, seconds: float, down: int = 1, up: int = 0, patience: bool = False) -> Result:
    """Type beside `down` downloads and `up` uploads for `seconds`; with `patience` see `Keys`.

    "got" are the bytes of each download, then those that the origin got of each upload.
    """
    typed, downloads = Keys(way, patience=patience), [Download(way, 1 << 40) for _ in range(down)]
    uploads = [Upload(way) for _ in range(up)]
    works: list[Keys | Download | Upload] = [typed, *downloads, *uploads]
    tasks = [asyncio.create_task(work.run()) for work in works]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    result = {
        "times": typed.times,
        "down": [transfer.got for transfer in downloads],
        "up": [transfer.got for transfer in uploads],
        "silence": max((transfer.silence for transfer in downloads), default=0.0),
        "seconds": seconds,
    }
    await _cancel(tasks)
    return result


async def crowd(way: Way, streams: int, seconds: float, every: float, size: int) -> Result:
    """Make a small request `every` so many seconds beside `streams` downloads.

    The measurement begins one second after the downloads.
    """
    times: list[float] = []

    async def request() -> None:
        began = time.perf_counter()
        await Download(way, size).run()
        times.append(time.perf_counter() - began)

    downloads = [Download(way, 1 << 40) for _ in range(streams)]
    tasks = [asyncio.create_task(transfer.run()) for transfer in downloads]
    await asyncio.sleep(1)
    before = [transfer.got for transfer in downloads]
    async with asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for number in range(round(seconds / every)):
            await asyncio.sleep(began + number * every - time.perf_counter())
            group.create_task(request())
    span = time.perf_counter() - began
    got = [transfer.got - old for transfer, old in zip(downloads, before, strict=True)]
    await _cancel(tasks)
    return {"times": times, "bytes": got, "seconds": span}


async def beside(way: Way, other: Way, seconds: float, after: float = 0) -> Result:
    """Two downloads at the same time for `seconds`: one by `way`, which has begun `after` seconds before
    that, one by `other`.
    """
    first, second = Download(way, 1 << 40), Download(other, 1 << 40)
    tasks = [asyncio.create_task(first.run())]
    await asyncio.wait(tasks, timeout=after)
    before = first.got
    tasks.append(asyncio.create_task(second.run()))
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    got = [first.got - before, second.got]
    await _cancel(tasks)
    return {"bytes": got, "seconds": seconds}


async def progress(way: Way, seconds: float) -> Result:
    """Download for `seconds`. "progress" has [time, bytes so far], by the system's monotonic clock."""
    transfer = Download(way, 1 << 40)
    task = asyncio.create_task(transfer.run())
    steps: list[tuple[float, int]] = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end and not task.done():
        if not steps or transfer.got != steps[-1][1]:
            steps.append((now, transfer.got))
        await asyncio.sleep(_LOOK_SECONDS)
    await _cancel([task])
    return {"progress": steps}


async def idle(way: Way, count: int, at_once: int) -> Result:
    """Open connections, check that each works, print a line, and keep them until the input ends."""
    loop = asyncio.get_running_loop()
    socks: list[socket.socket] = []
    left = iter(range(count))

    async def hold() -> None:
        for _ in left:
            sock = await way.ask("echo")
            await loop.sock_sendall(sock, b"?")
            await loop.sock_recv(sock, 1)
            socks.append(sock)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(hold())
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for sock in socks:
        sock.close()
    return {}


async def stalled(way: Way, count: int, size: int) -> Result:
    """Begin `count` downloads of `size` bytes and read none. Print a line, stay until the input ends."""
    socks = [await way.ask(f"send {size}", _SMALL_BUFFER) for _ in range(count)]
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for sock in socks:
        sock.close()
    return {}


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


_WORKS: dict[str, Callable[..., Coroutine[Any, Any, Result]]] = {
    work.__name__: work
    for work in (
        reach,
        download,
        upload,
        page,
        keys,
        typing,
        crowd,
        beside,
        progress,
        idle,
        stalled,
    )
}


def _way(data: list[Any]) -> Way:
    address, beyond = data
    return Way(tuple(address), beyond and tuple(beyond))


def main() -> None:
    """Do the work that the command line names."""
    work, arguments = _WORKS[sys.argv[1]], json.loads(sys.argv[2])
    for name in ("way", "other"):
        if name in arguments:
            arguments[name] = _way(arguments[name])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(work(**arguments))))


if __name__ == "__main__":
    main()
