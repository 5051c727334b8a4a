"""Many clients in one process, for `bench.scale`. Each is a whole `Client`, with a node and keys of its own.

Run as `python -m bench.clients FOLDER`. Orders come on standard input and answers leave on standard output,
a JSON object a line each:

    {"texts": [...]}        the clients' configurations, the first order: the answer has "seconds" for each,
                            from "since" until all of its servers were there; null for one that took "longest"
    {"port": P, "seconds": S, "at": T, "only": K}
                            each client has one download through each of its servers from the origin's port P,
                            the first K clients alone where "only" is not 0; the answer has "bytes", by client
                            and server, from T to T + S

Times are those of the system's monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

from toxproxy.address import Target, ToxId
from toxproxy.app.client import Client
from toxproxy.config import parse
from toxproxy.errors import StreamError
from toxproxy.program import runner

_LINE_BYTES = 1 << 24
_ALL = 1 << 40  # bytes: more than comes in time


class Counting(asyncio.Protocol):
    """Asks the origin for bytes without an end, and counts those that come."""

    def __init__(self) -> None:
        self.got = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(f"send {_ALL}\n".encode())

    def data_received(self, data: bytes) -> None:
        self.got += len(data)


class Crowd:
    """The clients of this process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._clients: list[Client] = []
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        """Leave the network with all of them."""
        await self._stack.aclose()

    async def enter(self, texts: list[str], since: float, longest: float) -> list[float | None]:
        """Start a client for each text. Returns when each was there, in seconds after `since`."""
        arrivals: list[asyncio.Future[float]] = []
        loop = asyncio.get_running_loop()
        for number, text in enumerate(texts):
            arrived: asyncio.Future[float] = loop.create_future()

            def changed(number: int = number, arrived: asyncio.Future[float] = arrived) -> None:
                there = all(peer.ready for peer in self._clients[number].peers())
                if there and not arrived.done():
                    arrived.set_result(time.monotonic() - since)

            client = Client(parse(text, f"client {number}"), self._folder / str(number), changed=changed)
            self._clients.append(client)
            arrivals.append(arrived)
            await self._stack.enter_async_context(client)
        await asyncio.wait(arrivals, timeout=max(0.0, since + longest - time.monotonic()))
        return [each.result() if each.done() else None for each in arrivals]

    async def download(self, port: int, seconds: float, at: float, only: int) -> list[list[int]]:
        """The bytes of each client from each server, from `at` on for `seconds`."""
        clients = self._clients[:only] if only else self._clients
        counts = [[Counting() for _ in client.config.servers] for client in clients]
        await _until(at)
        transports: list[asyncio.Transport] = []

        async def begin(client: Client, server: ToxId, count: Counting) -> None:
            with suppress(StreamError):  # its count stays 0
                transport, _ = await client.dialer(server).dial(lambda: count, Target("127.0.0.1", port))
                transports.append(transport)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(begin(*each)) for each in _pairs(clients, counts)]
            await _until(at + seconds)
            got = [[each.got for each in row] for row in counts]
            for task in tasks:
                task.cancel()
        for transport in transports:
            transport.abort()
        return got


def _pairs(clients: list[Client], counts: list[list[Counting]]) -> Iterator[tuple[Client, ToxId, Counting]]:
    for client, row in zip(clients, counts, strict=True):
        for server, count in zip(client.config.servers, row, strict=True):
            yield client, server, count


async def _until(due: float) -> None:
    await asyncio.sleep(due - time.monotonic())


async def main(folder: Path) -> None:
    """Do what the orders say until the input ends."""
    orders = asyncio.StreamReader(limit=_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    crowd = Crowd(folder)
    try:
        while line := await orders.readline():
            order: dict[str, Any] = json.loads(line)
            if "texts" in order:
                answer: dict[str, Any] = {"seconds": await crowd.enter(**order)}
            else:
                answer = {"bytes": await crowd.download(**order)}
            print(json.dumps(answer), flush=True)
    finally:
        await crowd.close()


if __name__ == "__main__":
    runner.confine()
    runner.run_loop(main(Path(sys.argv[1])))
