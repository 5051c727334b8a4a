"""Sessions over real ENet: streams as transports, dialled by a real exit to real sockets."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.simulation import Path
from tests.tunnel.ends import echo, service, tunnel, whole_then_length
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.relay.half import abort


async def test_bytes_pass_in_both_directions() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        message = bytes(range(256)) * 4000
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
        writer.close()
        await ends.quiet()


async def test_the_answer_after_half_close_is_whole() -> None:
    async with tunnel() as ends, service(whole_then_length) as port:
        reader, writer = await ends.open(port)
        writer.write(bytes(300_000))
        writer.write_eof()
        assert await reader.read(-1) == b"300000"
        writer.close()
        await ends.quiet()


async def test_the_far_side_may_half_close_first() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.write_eof()
        got = await reader.read(-1)
        received.set_result(got)
        writer.close()

    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    async with tunnel() as ends, service(greet) as port:
        reader, writer = await ends.open(port)
        assert await reader.read(-1) == b"hello"
        writer.write(b"and good bye")
        writer.write_eof()
        assert await received == b"and good bye"
        writer.close()
        await ends.quiet()


async def test_early_data_goes_out_before_the_answer() -> None:
    async with tunnel(Path(delay=0.05)) as ends, service(echo) as port:
        loop = asyncio.get_running_loop()
        began = loop.time()
        reader, writer = await ends.open(port, early=True)
        assert loop.time() - began < 0.05
        writer.write(b"first")
        assert await reader.readexactly(5) == b"first"
        writer.close()
        await ends.quiet()


async def test_a_refusal_has_its_code_and_text() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with tunnel() as ends:
            with pytest.raises(StreamRefused) as caught:
                await ends.open(port)
            assert caught.value.code is Refusal.CONNECTION_REFUSED
            await ends.quiet()


async def test_a_refusal_after_early_data_is_a_lost_connection() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        async with tunnel() as ends:
            reader, writer = await ends.open(port, early=True)
            writer.write(bytes(10_000))
            with pytest.raises(StreamRefused) as caught:
                await reader.read()
            assert caught.value.code is Refusal.CONNECTION_REFUSED
            await ends.quiet()


async def test_a_reset_of_the_service_is_a_reset_at_the_near_end() -> None:
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        assert isinstance(writer.transport, asyncio.Transport)
        abort(writer.transport)

    async with tunnel() as ends, service(slam) as port:
        reader, writer = await ends.open(port)
        writer.write(b"x")
        with pytest.raises(StreamReset) as caught:
            await reader.read()
        assert caught.value.code is ResetCode.CONNECTION_RESET
        await ends.quiet()


async def test_an_abort_at_the_near_end_resets_the_connection_to_the_service() -> None:
    failed = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        except ConnectionResetError:
            failed.set()
        writer.close()

    async with tunnel() as ends, service(note) as port:
        _, writer = await ends.open(port)
        writer.write(b"x")
        await asyncio.sleep(0.05)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await failed.wait()
        await ends.quiet()


async def test_a_slow_reader_pauses_only_its_own_writer() -> None:
    written = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            written += 65536

    async with tunnel() as ends, service(pour) as flood, service(echo) as port:
        _, stalled = await ends.open(flood)
        assert isinstance(stalled.transport, asyncio.Transport)
        stalled.transport.pause_reading()
        await asyncio.sleep(0.5)
        stopped_at = written
        reader, writer = await ends.open(port)
        for _ in range(20):
            writer.write(bytes(100_000))
            await reader.readexactly(100_000)
        assert written == stopped_at < 8 << 20  # at most one window and the kernel's buffers
        stalled.transport.abort()
        writer.close()
        await ends.quiet()


async def test_a_cancelled_dial_cancels_the_far_ends_dial() -> None:
    # A listener whose backlog is full leaves the third connection's SYN unanswered.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(2)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        async with tunnel() as ends:
            dial = asyncio.create_task(ends.open(port))
            await asyncio.sleep(0.3)
            [far] = ends.far.streams
            dial.cancel()
            await asyncio.wait([dial])
            assert dial.cancelled()
            await ends.quiet()
            async with asyncio.timeout(1):
                await asyncio.wait([far.serving])
            assert far.serving.cancelled()
        for filler in fillers:
            filler.close()


async def test_closing_without_reading_releases_both_ends() -> None:
    gone = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except ConnectionError:
            gone.set()

    async with tunnel() as ends, service(pour) as port:
        reader, writer = await ends.open(port)
        await reader.read(1000)
        writer.close()
        async with asyncio.timeout(5):
            await gone.wait()
            await writer.wait_closed()
        await ends.quiet()


async def test_closing_flushes_first() -> None:
    async with tunnel(Path(delay=0.02)) as ends:
        got: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            got.set_result(len(await reader.read(-1)))
            writer.close()

        async with service(count) as port:
            _, writer = await ends.open(port)
            writer.write(bytes(1_000_000))
            writer.close()
            assert await got == 1_000_000
            await ends.quiet()


async def test_many_streams_at_once_share_one_connection() -> None:
    async with tunnel() as ends, service(echo) as port:
        link = ends.near_end.carrier.link

        async def one(number: int) -> bool:
            reader, writer = await ends.open(port)
            message = b"%d," % number * 50
            writer.write(message)
            writer.write_eof()
            answer = await reader.read(-1)
            writer.close()
            return answer == message

        assert all(await asyncio.gather(*(one(n) for n in range(600))))
        await ends.quiet()
        assert ends.near_end.carrier.link is link
