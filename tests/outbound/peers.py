"""What an exit talks to in these tests, and the protocol of a dialled connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Serve(Protocol):
    """Starts a TCP server."""

    def __call__(self, handler: Handler, host: str = ...) -> Awaitable[int]: ...


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


class Answer(asyncio.Protocol):
    """The protocol of a dialled connection. Keeps what comes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrival = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._arrival.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)

    async def read(self, count: int) -> bytes:
        while len(self.received) < count:
            self._arrival.clear()
            await asyncio.wait_for(self._arrival.wait(), 5)
        return bytes(self.received)
