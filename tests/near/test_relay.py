"""Two connections joined into one, on real socket pairs."""

from __future__ import annotations

import asyncio
import socket

import pytest

from toxproxy import relay
from toxproxy.connection import KEEP_BYTES, Connection
from toxproxy.relay import Half


async def ended_pair(half: Half) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect `half` and return the peer it talks to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        accepted, _ = server.accept()
    await asyncio.get_running_loop().create_connection(lambda: half, sock=accepted)
    return reader, writer


async def test_a_pair_joins_itself_in_either_order():
    for first, second in ((0, 1), (1, 0)):
        halves = relay.pair()
        peers = {first: await ended_pair(halves[first])}
        peers[first][1].write(b"early")
        peers[second] = await ended_pair(halves[second])
        assert await peers[second][0].readexactly(5) == b"early"
        peers[second][1].write(b"back")
        peers[second][1].write_eof()
        assert await peers[first][0].read() == b"back"
        peers[first][1].write_eof()
        assert await peers[second][0].read() == b""
        await asyncio.wait((halves[0].lost, halves[1].lost))
        for _, writer in peers.values():
            writer.close()


async def test_what_was_read_too_much_goes_first_and_ends_follow_it():
    near, far = Connection(), Connection()
    near_reader, near_writer = await ended_pair(near)
    far_reader, far_writer = await ended_pair(far)
    near_writer.write(b"abcdef")
    data = await near.read()
    near.unread(data[3:])
    near_writer.write(b"ghi")
    near_writer.write_eof()
    far_writer.write(b"answer")
    far_writer.write_eof()
    await asyncio.wait((near.hung_up, far.hung_up))
    assert await relay.run(near, far) is None
    assert await far_reader.read() == b"defghi"
    assert await near_reader.read() == b"answer"
    for writer in (near_writer, far_writer):
        writer.close()


async def test_kept_bytes_that_fill_the_other_side_leave_reading_paused():
    near, far = Connection(), Half()
    _, near_writer = await ended_pair(near)
    far_reader, far_writer = await ended_pair(far)
    far_writer.transport.pause_reading()
    near.unread(bytes(32 << 20))
    relay.join(near, far)
    assert not near.transport.is_reading()
    assert far.transport.is_reading()
    far_writer.transport.resume_reading()
    await far_reader.readexactly(32 << 20)
    assert near.transport.is_reading()
    for writer in (near_writer, far_writer):
        writer.close()


@pytest.mark.parametrize("gone", ["near", "far"])
async def test_a_connection_that_is_over_before_the_join_resets_the_other(gone):
    near, far = relay.pair()
    first, second = (near, far) if gone == "near" else (far, near)
    _, first_writer = await ended_pair(first)
    first.reset()
    await asyncio.wait((first.lost,))
    reader, second_writer = await ended_pair(second)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    assert second.lost.done()
    for writer in (first_writer, second_writer):
        writer.close()


async def test_a_cancelled_relay_resets_both():
    near, far = Half(), Half()
    ends = [await ended_pair(near), await ended_pair(far)]
    task = asyncio.create_task(relay.run(near, far))
    await asyncio.sleep(0)
    task.cancel()
    for reader, writer in ends:
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()


async def test_nobody_reading_bounds_what_is_kept():
    connection = Connection()
    _, writer = await ended_pair(connection)
    writer.write(bytes(16 << 20))
    async with asyncio.timeout(5):
        while connection.transport.is_reading():
            await asyncio.sleep(0.005)
    data = await connection.read()
    assert KEEP_BYTES <= len(data) <= KEEP_BYTES + (256 << 10)  # and one read of asyncio's
    total = len(data)
    while total < 16 << 20:
        total += len(await connection.read())
    writer.close()
    connection.reset()


async def test_a_lost_connection_is_said_after_what_came_before_it():
    connection = Connection()
    _, writer = await ended_pair(connection)
    writer.write(b"last words")
    await asyncio.sleep(0.01)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    await asyncio.wait((connection.lost,))
    assert await connection.read() == b"last words"
    with pytest.raises(ConnectionResetError):
        await connection.read()
    with pytest.raises(ConnectionResetError):
        await connection.write(b"x")
