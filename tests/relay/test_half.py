"""Two real TCP connections joined by a relay."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from tests.relay.clients import deaf_client, was_reset
from toxproxy import relay

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Joined:
    """The two outer ends of a relay."""

    left: Streams
    right: Streams


@asynccontextmanager
async def joined(first: bytes = b"") -> AsyncIterator[Joined]:
    """left <-> [relay] <-> right. `first` are bytes that a handshake at the left has read already."""
    loop = asyncio.get_running_loop()
    near, far = relay.pair()
    ends: list[Streams] = []
    arrived = asyncio.Event()

    async def outer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append((reader, writer))
        arrived.set()

    server = await asyncio.start_server(outer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for half in (near, far):
        arrived.clear()
        await loop.create_connection(lambda half=half: half, "127.0.0.1", port)
        if half is near and first:
            half.data_received(first)
        await arrived.wait()
    try:
        yield Joined(*ends)
    finally:
        for _, writer in ends:
            writer.transport.abort()
        server.close()


async def within(seconds: float, what: Callable[[], Awaitable[bytes]]) -> bytes:
    async with asyncio.timeout(seconds):
        return await what()


async def test_bytes_pass_in_both_directions() -> None:
    async with joined() as both:
        for (_, writer), (reader, _) in ((both.left, both.right), (both.right, both.left)):
            writer.write(b"x" * 300_000)
            assert await within(5, lambda reader=reader: reader.readexactly(300_000))


async def test_bytes_read_by_the_handshake_go_first() -> None:
    async with joined(first=b"early ") as both:
        both.left[1].write(b"late")
        assert await within(5, lambda: both.right[0].readexactly(10)) == b"early late"


async def test_each_direction_ends_by_itself() -> None:
    async with joined() as both:
        both.left[1].write(b"question")
        both.left[1].write_eof()
        assert await within(5, lambda: both.right[0].read(-1)) == b"question"
        both.right[1].write(b"answer" * 50_000)
        both.right[1].write_eof()
        assert await within(5, lambda: both.left[0].read(-1)) == b"answer" * 50_000


async def test_a_reset_is_relayed_as_a_reset() -> None:
    async with joined() as both:
        relay.abort(both.left[1].transport)
        with pytest.raises(ConnectionResetError):
            await within(5, lambda: both.right[0].read(-1))


async def test_a_reader_that_stops_pauses_the_writer() -> None:
    async with joined() as both:
        both.right[1].transport.pause_reading()
        writer, written = both.left[1], 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    writer.write(bytes(1 << 20))
                    await writer.drain()
                    written += 1 << 20
        assert written < 64 << 20
        both.right[1].transport.resume_reading()
        assert await within(10, lambda: both.right[0].readexactly(written))


async def test_the_last_bytes_reach_a_slow_reader_after_both_ends_have_finished() -> None:
    """Both directions have ended while the answer is still in buffers. Nothing of it is lost."""
    async with joined() as both:
        both.left[1].transport.pause_reading()
        both.left[1].write_eof()
        body = bytes(6 << 20)
        both.right[1].write(body)
        both.right[1].write_eof()
        await asyncio.sleep(0.3)
        both.left[1].transport.resume_reading()
        assert await within(10, lambda: both.left[0].read(-1)) == body


async def test_abort_resets_where_the_transports_own_abort_would_send_a_fin() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=accepted)
    relay.abort(transport)
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    for sock in (server, client):
        sock.close()


async def stuck(body: int) -> tuple[socket.socket, asyncio.Transport]:
    """A client that reads nothing, and its transport, which was closed with `body` bytes to write."""
    client, transport = await deaf_client(asyncio.Protocol())
    transport.write(bytes(body))
    transport.close()
    return client, transport


async def test_abort_of_a_connection_that_is_still_flushing_is_a_reset() -> None:
    client, transport = await stuck(16 << 20)
    assert transport.get_write_buffer_size()
    relay.abort(transport)
    await asyncio.sleep(0.05)
    assert await was_reset(client)


async def test_abort_of_a_connection_that_has_sent_everything_loses_nothing() -> None:
    client, transport = await stuck(2000)
    assert not transport.get_write_buffer_size()
    relay.abort(transport)
    await asyncio.sleep(0.05)
    relay.abort(transport)  # aborting a closed connection does nothing
    with client:
        assert len(client.recv(1 << 20, socket.MSG_WAITALL)) == 2000


async def test_halves_are_waited_for_and_can_be_reset() -> None:
    halves = relay.Halves()
    client, transport = await stuck(16 << 20)
    half = relay.Half()
    half.transport = transport
    transport.set_protocol(half)
    halves.add(half)
    waiting = asyncio.create_task(halves.idle())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    assert len(halves) == 1
    halves.reset()
    async with asyncio.timeout(5):
        await waiting
    assert not len(halves)
    assert await was_reset(client)
