"""Two connections joined by a relay, on real socket pairs."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.relay.clients import deaf_client, was_reset
from toxproxy import relay
from toxproxy.pace import Notice
from toxproxy.patience import Patience
from toxproxy.relay import half, stream
from toxproxy.relay.half import Half
from toxproxy.relay.stream import KEEP_BYTES, ByteStream

Peers = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def ended_pair(half: Half) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect `half`. Returns its peer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        accepted, _ = server.accept()
    await asyncio.get_running_loop().create_connection(lambda: half, sock=accepted)
    return reader, writer


async def test_two_halves_join_in_either_order():
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


async def test_bytes_read_before_the_join_go_first_and_the_ends_follow():
    near, far = ByteStream(), ByteStream()
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


async def test_reading_stays_paused_if_the_kept_bytes_fill_the_other_side():
    near, far = ByteStream(), Half()
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
async def test_a_connection_lost_before_the_join_resets_the_other(gone):
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


async def test_without_a_reader_a_bounded_number_of_bytes_is_kept():
    client = ByteStream()
    _, writer = await ended_pair(client)
    writer.write(bytes(16 << 20))
    async with asyncio.timeout(5):
        while client.transport.is_reading():
            await asyncio.sleep(0.005)
    data = await client.read()
    assert KEEP_BYTES <= len(data) <= KEEP_BYTES + 4096  # and one read of the smallest size
    total = len(data)
    while total < 16 << 20:
        total += len(await client.read())
    writer.close()
    client.reset()


async def test_a_lost_connection_is_reported_after_the_bytes_that_came_before():
    client = ByteStream()
    _, writer = await ended_pair(client)
    writer.write(b"last words")
    await asyncio.sleep(0.01)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
    await asyncio.wait((client.lost,))
    assert await client.read() == b"last words"
    with pytest.raises(ConnectionResetError):
        await client.read()
    with pytest.raises(ConnectionResetError):
        await client.write(b"x")


async def watched(patience: Patience) -> tuple[list[Half], Peers]:
    """A relay with this patience, and the peers of its two halves."""
    halves = list(relay.pair(patience))
    return halves, [await ended_pair(half) for half in halves]


def resets(halves: list[Half]) -> bool:
    return all(half.lost.done() for half in halves)


async def over(halves: list[Half], peers: Peers) -> None:
    """Wait until both connections have been reset."""
    async with asyncio.timeout(5):
        await asyncio.wait([half.lost for half in halves])
        for reader, writer in peers:
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1 << 30)
            writer.close()


async def test_an_idle_relay_is_reset_with_a_log_line(monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(half, "_silent", Notice(half.log))
    for _ in range(2):
        await over(*await watched(Patience(idle=0.05)))
    assert caplog.messages == ["a connection was reset: no byte came for 0.05 s ([limits] idle)"]


@pytest.mark.parametrize("sender", [0, 1])
async def test_bytes_in_either_direction_keep_a_relay_open(sender):
    halves, peers = await watched(Patience(idle=0.5))
    for _ in range(10):
        peers[sender][1].write(b"x")
        assert await peers[1 - sender][0].readexactly(1) == b"x"
        await asyncio.sleep(0.1)  # twice the patience in total
    assert not resets(halves)
    await over(halves, peers)


async def test_bytes_taken_by_a_slow_reader_keep_a_relay_open():
    """Bytes in the system's buffers count as well. These hold several MiB."""
    halves, peers = await watched(Patience(idle=0.4))
    peers[0][1].write(bytes(32 << 20))
    reader = peers[1][0]
    for _ in range(12):
        await asyncio.sleep(0.1)
        await reader.readexactly(1 << 20)
    assert not resets(halves)
    reader._transport.pause_reading()  # from now on no byte moves
    async with asyncio.timeout(5):
        await asyncio.wait([half.lost for half in halves])
    for _, writer in peers:
        writer.close()


@pytest.mark.parametrize("sender", [0, 1])
async def test_a_silent_half_closed_relay_is_reset(sender, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(half, "_silent", Notice(half.log))
    halves, peers = await watched(Patience(idle=3600, half_closed=0.3))
    await asyncio.sleep(0.4)
    assert not resets(halves)
    peers[sender][1].write_eof()
    assert await peers[1 - sender][0].read() == b""
    for _ in range(6):
        peers[1 - sender][1].write(b"x")  # the other direction is still used
        assert await peers[sender][0].readexactly(1) == b"x"
        await asyncio.sleep(0.1)
    assert not resets(halves)
    async with asyncio.timeout(5):
        await asyncio.wait([half.lost for half in halves])
    for _, writer in peers:
        writer.close()
    assert caplog.messages == ["a connection was reset: no byte came for 0.3 s ([limits] half_closed)"]


async def test_a_relay_that_ends_in_order_leaves_no_timer():
    halves, peers = await watched(Patience(idle=3600, half_closed=3600))
    watch = halves[0]._watch
    assert watch is not None
    assert watch._timer is not None
    for _, writer in peers:
        writer.write_eof()
    await asyncio.wait([half.lost for half in halves])
    assert watch._timer is None
    for _, writer in peers:
        writer.close()


async def test_a_patient_relay_needs_no_timer():
    halves, peers = await watched(Patience(idle=0, half_closed=0))
    peers[0][1].write_eof()
    assert await peers[1][0].read() == b""
    assert halves[0]._watch is not None
    assert halves[0]._watch._timer is None
    for _, writer in peers:
        writer.close()


async def said_to_a_deaf_client(
    near: Half, far: Half
) -> tuple[asyncio.Task[Exception | None], socket.socket]:
    """A relay whose directions have both ended while its client has not read the answer.

    Returns the task that runs the relay, and the client.
    """
    client, _ = await deaf_client(near)
    near.transport.set_write_buffer_limits(1 << 30)
    _, writer = await ended_pair(far)
    task = asyncio.create_task(relay.run(near, far))
    client.shutdown(socket.SHUT_WR)
    writer.write(bytes(16 << 20))
    writer.close()
    async with asyncio.timeout(10):
        await asyncio.wait((far.lost,))
        while not near.transport.is_closing():
            await asyncio.sleep(0.01)
    assert near.transport.get_write_buffer_size()
    return task, client


async def test_a_relay_cancelled_while_the_answer_is_under_way_is_a_reset():
    task, client = await said_to_a_deaf_client(Half(), Half())
    task.cancel()
    await asyncio.wait([task])
    assert await was_reset(client)


async def test_a_relay_given_up_while_the_answer_is_under_way_is_a_reset():
    task, client = await said_to_a_deaf_client(Half(Patience(half_closed=0.3)), Half())
    async with asyncio.timeout(10):
        await task
    assert await was_reset(client)


async def test_a_client_that_stops_reading_the_last_bytes_is_reset(monkeypatch):
    monkeypatch.setattr(stream, "STALL_SECONDS", 0.3)
    near = ByteStream()
    client, _ = await deaf_client(near)
    near.transport.write(bytes(16 << 20))
    finishing = asyncio.create_task(near.finish())
    client.setblocking(False)
    for _ in range(10):  # it reads slowly for longer than STALL_SECONDS, then stops
        await asyncio.sleep(0.1)
        got = 0
        while got < 1 << 20:
            got += len(await asyncio.get_running_loop().sock_recv(client, 1 << 16))
    assert not finishing.done()
    async with asyncio.timeout(10):
        await finishing
    assert await was_reset(client)
