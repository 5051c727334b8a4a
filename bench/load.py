"""The near end of every measurement: a client that uses a tunnel and reports the result.

Run as `python -m bench.load WORK ARGUMENTS`. The arguments are a JSON object; the result is printed as
another one. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from python_socks import ProxyError
from python_socks.async_.asyncio import Proxy

_PIECE = 1 << 20
_SMALL_BUFFER = 4096  # bytes: the receive buffer of a client that does not read
_LOOK_SECONDS = 0.01
_RANDOM = os.urandom(1 << 23)

Result = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """How to reach the origin: at `address`, or at `beyond` through the SOCKS proxy at `address`."""

    address: tuple[str, int]
    beyond: tuple[str, int] | None = None

    async def connect(self, buffer: int = 0) -> socket.socket:
        """Connect. `buffer` is the receive buffer in bytes; 0 leaves it to the system.

        Raises `OSError` or `ProxyError`.
        """
        loop = asyncio.get_running_loop()
        if self.beyond is not None:
            proxy = Proxy.from_url(f"socks5://{self.address[0]}:{self.address[1]}")
            sock: socket.socket = await proxy.connect(*self.beyond)
        else:
            sock = socket.socket()
            sock.setblocking(False)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            try:
                await loop.sock_connect(sock, self.address)
            except BaseException:
                sock.close()
                raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def ask(self, line: str, buffer: int = 0) -> socket.socket:
        """Connect as `connect` does, then send the origin the request `line`."""
        sock = await self.connect(buffer)
        await asyncio.get_running_loop().sock_sendall(sock, f"{line}\n".encode())
        return sock


class Download:
    """A download of `size` bytes on one connection. `got` counts the bytes that have come.

    `silence` is the longest time without a byte, in seconds, from the beginning of `run` on.
    """

    def __init__(self, way: Way, size: int, what: str = "send") -> None:
        self.got = 0
        self._silence, self._heard = 0.0, 0.0
        self._way, self._size, self._what = way, size, what

    async def run(self) -> None:
        """Receive everything. Raises `ConnectionError` if the connection ends early."""
        loop, buffer = asyncio.get_running_loop(), bytearray(_PIECE)
        self._heard = time.perf_counter()
        with await self._way.ask(f"{self._what} {self._size}") as sock:
            while size := await loop.sock_recv_into(sock, buffer):
                self._silence = self.silence
                self._heard = time.perf_counter()
                self.got += size
        if self.got != self._size:
            raise ConnectionError(f"cut short: {self.got} of {self._size} bytes")

    @property
    def silence(self) -> float:
        """The longest time without a byte so far."""
        return max(self._silence, time.perf_counter() - self._heard) if self._heard else 0.0


class Upload:
    """An upload without an end. `got` counts the bytes that the origin says it has received."""

    def __init__(self, way: Way) -> None:
        self.got = 0
        self._way = way

    async def run(self) -> None:
        """Send until cancelled. Raises `ConnectionError` if the connection ends."""
        loop = asyncio.get_running_loop()
        with await self._way.ask("count") as sock:
            sending = asyncio.create_task(self._send(sock))
            try:
                rest = b""
                while data := await loop.sock_recv(sock, 4096):
                    *lines, rest = (rest + data).split(b"\n")
                    self.got = int(lines[-1]) if lines else self.got
            finally:
                sending.cancel()
        raise ConnectionError("cut short: the upload ended")

    async def _send(self, sock: socket.socket) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(sock, _RANDOM[:_PIECE])


class Keys:
    """A byte every `every` seconds on one connection, whether or not the last one has come back.

    `times` are those of the echoes, in seconds. A byte that has not come back yet counts with what it
    has waited.
    """

    def __init__(self, way: Way, every: float = 0.05) -> None:
        self._way, self._every = way, every
        self._sent: list[float] = []
        self._times: list[float] = []

    async def run(self) -> None:
        """Type until cancelled. Raises `ConnectionError` if the connection ends."""
        loop = asyncio.get_running_loop()
        with await self._way.ask("echo") as sock:
            hearing = asyncio.create_task(self._hear(sock))
            try:
                began = time.perf_counter()
                while not hearing.done():
                    self._sent.append(time.perf_counter())
                    await loop.sock_sendall(sock, b"?")
                    await asyncio.sleep(began + len(self._sent) * self._every - time.perf_counter())
                await hearing
            finally:
                hearing.cancel()

    @property
    def times(self) -> list[float]:
        """The time of each byte, there and back."""
        now = time.perf_counter()
        return [*self._times, *(now - sent for sent in self._sent[len(self._times) :])]

    async def _hear(self, sock: socket.socket) -> None:
        while data := await asyncio.get_running_loop().sock_recv(sock, 4096):
            now = time.perf_counter()
            self._times += [now - sent for sent in self._sent[len(self._times) :][: len(data)]]
        raise ConnectionError("cut short: the echo ended")


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
                piece = memoryview(_RANDOM)[: min(left, len(_RANDOM))]
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


async def exchanges(way: Way, seconds: float, bulk: int) -> Result:
    """Send a byte and wait for its echo, again and again, beside `bulk` downloads."""
    loop, times = asyncio.get_running_loop(), []
    downloads = [Download(way, 1 << 40) for _ in range(bulk)]
    with await way.ask("echo") as sock:
        tasks = [asyncio.create_task(transfer.run()) for transfer in downloads]
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            await loop.sock_sendall(sock, b"?")
            await loop.sock_recv(sock, 1)
            times.append(time.perf_counter() - began)
            await asyncio.sleep(0.01)
        got = [transfer.got for transfer in downloads]
        await _cancel(tasks)
    return {"times": times, "bytes": got, "seconds": seconds}


async def typing(way: Way, seconds: float, down: int = 1, up: int = 0) -> Result:
    """Type beside `down` downloads and `up` uploads for `seconds`.

    "got" are the bytes of each download, then those that the origin got of each upload.
    """
    keys, downloads = Keys(way), [Download(way, 1 << 40) for _ in range(down)]
    uploads = [Upload(way) for _ in range(up)]
    works: list[Keys | Download | Upload] = [keys, *downloads, *uploads]
    tasks = [asyncio.create_task(work.run()) for work in works]
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    result = {
        "times": keys.times,
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
    for work in (reach, download, upload, page, exchanges, typing, crowd, beside, progress, idle, stalled)
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
