"""The memory that a server holds for a client that opens streams and reads nothing."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.tunnel.ends import service, tunnel
from toxproxy.mux.limits import Allotment, Limits, Pool
from toxproxy.mux.sender import LEAST_BUFFER

STREAMS = 100
KIB = 1024


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(64 * KIB))
        await writer.drain()


async def test_what_the_server_reads_for_a_client_without_credit_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = Pool(256 * KIB)
    limits = Limits(session_window=256 * KIB, window=64 * KIB, least_window=KIB, early_window=KIB, pool=pool)
    async with tunnel(limits=limits) as ends, service(talk) as port:
        before = pool.left
        monkeypatch.setattr(Allotment, "first", lambda self: 0)  # the window of OPEN is 0
        kept = [await ends.open(port) for _ in range(STREAMS)]
        monkeypatch.undo()
        streams = ends.far.multiplexer.streams.values()
        async with asyncio.timeout(10):
            while not all(stream.sender.full for stream in streams):
                await asyncio.sleep(0.01)
        held = sum(stream.sender.buffered for stream in streams)
        assert held <= 256 * KIB + STREAMS * (LEAST_BUFFER + 4 * KIB)
        ends.near.close("gone")
        async with asyncio.timeout(10):
            while ends.far_end.session is not None:
                await asyncio.sleep(0.01)
        ends.pipe.path = type(ends.pipe.path)(loss=1.0)  # prevents a new session
        assert pool.left >= before
        for _, writer in kept:
            with contextlib.suppress(ConnectionError):
                writer.close()
