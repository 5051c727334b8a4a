"""Time limits for idle connections that a peer has opened."""

from __future__ import annotations

import asyncio

import pytest

from tests.tunnel.ends import echo, service, tunnel
from toxproxy.patience import Patience


async def test_an_idle_connection_is_reset_at_both_ends() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        try:
            await reader.read()
            ended.set_result("end")
        except ConnectionResetError:
            ended.set_result("reset")

    async with tunnel(patience=Patience(idle=0.2)) as ends, service(silent) as port:
        reader, writer = await ends.open(port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
            assert await ended == "reset"
        await ends.quiet()


async def test_a_half_closed_connection_is_reset_although_its_service_never_ends() -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        await asyncio.sleep(30)

    async with tunnel(patience=Patience(half_closed=0.2)) as ends, service(deaf) as port:
        reader, writer = await ends.open(port)
        writer.write_eof()
        async with asyncio.timeout(10):
            with pytest.raises(ConnectionResetError):
                await reader.readexactly(1)
        await ends.quiet()


async def test_a_connection_in_use_stays_open() -> None:
    async with tunnel(patience=Patience(idle=1.0)) as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        for _ in range(15):
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await asyncio.sleep(0.1)
        writer.close()


async def test_bytes_consumed_at_the_other_end_count_as_activity() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        credit = writer.get_extra_info("credit")
        writer.write(bytes(1 << 20))
        await reader.readexactly(1 << 20)
        async with asyncio.timeout(10):
            while writer.get_extra_info("credit") == credit:
                await asyncio.sleep(0.01)
        assert writer.get_extra_info("credit") > credit
        assert writer.get_extra_info("socket") is None
        writer.close()
