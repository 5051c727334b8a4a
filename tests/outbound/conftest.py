"""What an exit dials: services, closed and silent ports. All are real and on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.outbound.peers import Handler, Serve, echo


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A function that starts a TCP server on loopback and returns its port."""
    tasks: set[asyncio.Task[None]] = set()

    async with contextlib.AsyncExitStack() as stack:

        async def start(handler: Handler, host: str = "127.0.0.1") -> int:
            async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await handler(reader, writer)
                writer.close()

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                tasks.add(asyncio.create_task(guarded(reader, writer)))

            server = await asyncio.start_server(accept, host, 0)
            stack.callback(server.close)
            return int(server.sockets[0].getsockname()[1])

        yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def echo_port(serve: Serve) -> int:
    return await serve(echo)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that refuses connections: bound, but not listening."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


@pytest.fixture
def black_hole() -> Iterator[Callable[[str, int], int]]:
    """A function that makes a port which never answers: with a full backlog the kernel drops every SYN."""
    with contextlib.ExitStack() as stack:

        def make(host: str, port: int = 0) -> int:
            listener = stack.enter_context(socket.socket())
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(0)
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            return int(listener.getsockname()[1])

        yield make
