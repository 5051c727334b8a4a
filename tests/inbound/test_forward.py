"""Forwards (toxproxy/forward.py) between real sockets."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.inbound.peers import Origin, connect, echo, flood, forward, reset, talk, until
from tests.ports import unused_port
from toxproxy.address import Target
from toxproxy.config.settings import LimitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.forward import ForwardListener
from toxproxy.patience import Patience


async def started(dialer, target: Target) -> ForwardListener:
    listener = ForwardListener(forward(target), dialer)
    await listener.start()
    return listener


async def test_bytes_pass_in_both_directions_and_each_ends_by_itself(dialer):
    async with Origin(echo) as server:
        listener = await started(dialer, server.target)
        data = bytes(range(256)) * 4096
        assert await talk(listener, data) == data
        await until(lambda: listener.connections == 0)
        await listener.close()


async def test_bytes_sent_before_the_dial_has_succeeded_arrive_first(dialer):
    async with Origin(echo) as server:
        dialer.gate.clear()
        listener = await started(dialer, server.target)
        reader, writer = await connect(listener)
        writer.write(b"early ")
        await dialer.waiting.wait()
        await asyncio.sleep(0.02)
        dialer.gate.set()
        writer.write(b"late")
        writer.write_eof()
        assert await reader.read() == b"early late"
        writer.close()
        await listener.close()


async def test_a_client_that_half_closes_during_the_dial_still_gets_its_answer(dialer):
    async with Origin(echo) as server:
        dialer.gate.clear()
        listener = await started(dialer, server.target)
        answer = asyncio.create_task(talk(listener, b"question"))
        await dialer.waiting.wait()
        await asyncio.sleep(0.02)
        dialer.gate.set()
        assert await answer == b"question"
        await listener.close()


async def test_the_far_end_may_end_first(dialer):
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def greet_and_listen(reader, writer):
        writer.write(b"done")
        writer.write_eof()
        got.set_result(await reader.read())

    async with Origin(greet_and_listen) as server:
        listener = await started(dialer, server.target)
        reader, writer = await connect(listener)
        assert await reader.read() == b"done"
        writer.write(b"still here")
        writer.write_eof()
        assert await got == b"still here"
        writer.close()
        await listener.close()


async def test_a_refused_target_resets_the_client_and_is_logged_once(dialer, caplog):
    caplog.set_level(logging.INFO)
    target = Target("127.0.0.1", unused_port())
    listener = await started(dialer, target)
    reader, writer = await connect(listener)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    await until(lambda: listener.connections == 0)
    assert [record.getMessage() for record in caplog.records] == [
        f"web: {target} refused: 'connection refused'"
    ]
    writer.close()
    await listener.close()


async def test_a_refusal_after_the_first_bytes_were_sent_resets_the_client_and_is_logged(dialer, caplog):
    """With `early` the transport exists before the answer. A refusal then is a lost connection."""

    class EarlyDialer:
        async def dial(self, protocol_factory, target, *, early=False, compress=True):
            assert early
            transport, protocol = await dialer.dial(protocol_factory, target)
            refusal = StreamRefused(Refusal.NOT_PERMITTED, "not permitted")
            loop = asyncio.get_running_loop()
            loop.call_later(0.02, transport._force_close, refusal)
            return transport, protocol

    caplog.set_level(logging.INFO)
    async with Origin(echo) as server:
        listener = ForwardListener(forward(server.target), EarlyDialer())
        await listener.start()
        reader, writer = await connect(listener)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await until(lambda: listener.connections == 0)
        assert f"web: {server.target} refused: 'not permitted'" in caplog.messages
        writer.close()
        await listener.close()


async def test_a_reset_at_the_far_end_resets_the_client(dialer):
    async def drop(reader, writer):
        await reader.readexactly(1)
        reset(writer)

    async with Origin(drop) as server:
        listener = await started(dialer, server.target)
        reader, writer = await connect(listener)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        await listener.close()


async def test_a_reset_by_the_client_resets_the_far_end(dialer):
    met: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def watch(reader, writer):
        writer.write(b"x")
        try:
            await reader.read()
            met.set_result("end")
        except ConnectionResetError:
            met.set_result("reset")

    async with Origin(watch) as server:
        listener = await started(dialer, server.target)
        reader, writer = await connect(listener)
        await reader.readexactly(1)
        reset(writer)
        assert await asyncio.wait_for(met, 5) == "reset"
        await listener.close()


async def test_a_client_that_is_reset_during_the_dial_cancels_it(dialer):
    dialer.gate.clear()
    listener = await started(dialer, Target("127.0.0.1", unused_port()))
    _, writer = await connect(listener)
    await dialer.waiting.wait()
    reset(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: listener.connections == 0)
    await listener.close()


async def test_a_client_that_does_not_read_stops_the_far_end(dialer):
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        while True:
            writer.write(bytes(65536))
            await writer.drain()
            sent += 65536

    async with Origin(flood) as server:
        listener = await started(dialer, server.target)
        reader, writer = await connect(listener)
        writer.transport.pause_reading()
        before = -1
        async with asyncio.timeout(10):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert sent < 32 << 20
        writer.transport.resume_reading()
        await reader.readexactly(sent + 65536)  # the far end goes on
        writer.close()
        await listener.close()


async def test_a_bounded_number_of_bytes_is_read_from_a_client_during_the_dial(dialer):
    dialer.gate.clear()
    listener = await started(dialer, Target("127.0.0.1", unused_port()))
    _, writer = await connect(listener)
    sent = await flood(writer)
    assert sent < 16 << 20
    writer.transport.abort()
    await listener.close()


async def idle_connection(dialer, target: Target) -> None:
    """One connection through a forward of its own, until it is reset for its silence."""
    listener = ForwardListener(forward(target), dialer, LimitSettings(patience=Patience(idle=0.05)))
    await listener.start()
    reader, writer = await connect(listener)
    with pytest.raises(ConnectionResetError):
        await reader.readexactly(1)
    writer.close()
    await until(lambda: listener.connections == 0)
    await listener.close()


async def test_the_silent_connections_of_one_forward_do_not_hide_the_log_line_of_another(dialer, caplog):
    caplog.set_level(logging.INFO)
    async with Origin(echo) as server:
        for _ in range(2):
            await idle_connection(dialer, server.target)
    assert caplog.messages == ["a connection was reset: no byte came for 0.05 s ([limits] idle)"] * 2
