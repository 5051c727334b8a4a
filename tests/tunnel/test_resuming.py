"""Streams outlive their links: they go on byte for byte."""

from __future__ import annotations

import asyncio
import hashlib
import random
from dataclasses import replace

import pytest

from tests.simulation import Path
from tests.tunnel.ends import Ends, echo, service, tunnel
from toxproxy.errors import CloseCode, StreamReset
from toxproxy.link.base import LinkEnd
from toxproxy.link.enet import SILENCE
from toxproxy.tunnel.events import Change, Loss, PeerClosed, SessionEvent

MOST_FAILURES = 20  # without an end to them, a busy machine would send nothing between two


async def fetch(ends: Ends, port: int, data: bytes) -> bytes:
    """Send `data` to an echo service and return what comes back."""
    reader, writer = await ends.open(port)

    async def send() -> None:
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    async with asyncio.TaskGroup() as group:
        group.create_task(send())
        answer = group.create_task(reader.read(-1))
    writer.close()
    return answer.result()


async def interrupted(ends: Ends) -> None:
    while ends.near_end.ready:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("seed", range(4))
async def test_links_that_fail_at_any_moment_lose_nothing(seed: int) -> None:
    chance = random.Random(seed)
    async with tunnel(Path(delay=0.005, loss=0.02, rate=8e6)) as ends, service(echo) as port:
        files = [chance.randbytes(chance.randrange(1, 3_000_000)) for _ in range(6)]
        failures = 0

        async def disturb() -> None:
            nonlocal failures
            while failures < MOST_FAILURES:
                await asyncio.sleep(chance.uniform(0.02, 0.2))
                side = chance.choice((ends.near_end, ends.far_end))
                if side.ready and side.carrier.link is not None:
                    side.carrier.link.fail(LinkEnd.SILENT)
                    failures += 1
                    if side is ends.far_end:  # the near end would notice by silence, but later
                        ends.near_end.carrier.link.fail(LinkEnd.SILENT)

        disturber = asyncio.create_task(disturb())
        async with asyncio.timeout(110):
            answers = await asyncio.gather(*(fetch(ends, port, file) for file in files))
        disturber.cancel()
        assert [hashlib.sha256(answer).digest() for answer in answers] == [
            hashlib.sha256(file).digest() for file in files
        ]
        assert failures > 2
        async with asyncio.timeout(10):
            while not ends.near_end.ready:
                await asyncio.sleep(0.01)
        await ends.quiet()
        assert not ends.ended


async def test_a_path_that_becomes_ten_times_as_long_is_no_interruption() -> None:
    path = Path(delay=0.01, rate=8e6)
    file = random.Random(1).randbytes(6_000_000)
    async with tunnel(path) as ends, service(echo) as port:
        fetching = asyncio.create_task(fetch(ends, port, file))
        await asyncio.sleep(0.3)
        assert not fetching.done()
        ends.pipe.path = replace(path, delay=0.1)
        async with asyncio.timeout(110):
            assert await fetching == file
        await ends.quiet()
        assert {what for _, what in ends.changes} == {SessionEvent(Change.BEGAN)}


async def test_a_silent_path_is_noticed_and_the_session_resumes_later() -> None:
    path = Path(delay=0.01)
    async with tunnel(path) as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        ends.pipe.path = replace(path, loss=1.0)
        writer.write(b"during")
        async with asyncio.timeout(15):
            await interrupted(ends)
        ends.pipe.path = path
        async with asyncio.timeout(15):
            assert await reader.readexactly(6) == b"during"
        assert ("near", SessionEvent(Change.INTERRUPTED, LinkEnd.SILENT)) in ends.changes
        assert ("near", SessionEvent(Change.RESUMED)) in ends.changes
        writer.close()
        await ends.quiet()


async def test_a_stream_opened_during_an_interruption_waits_for_its_end() -> None:
    async with tunnel() as ends, service(echo) as port:
        ends.near_end.lose()
        opening = asyncio.create_task(ends.open(port))
        await asyncio.sleep(0.05)
        assert not opening.done()
        ends.near_end.reach()
        async with asyncio.timeout(10):
            reader, writer = await opening
            writer.write(b"late")
            assert await reader.readexactly(4) == b"late"
        writer.close()
        await ends.quiet()


async def test_streams_of_a_restarted_server_are_reset() -> None:
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        old = ends.far
        ends.near_end.lose()
        ends.far.expire(Loss.EXPIRED)
        ends.near_end.reach()
        with pytest.raises(StreamReset):
            await reader.read()
        async with asyncio.timeout(10):
            while not ends.near_end.ready:
                await asyncio.sleep(0.01)
            reader, writer = await ends.open(port)
            writer.write(b"new")
            assert await reader.readexactly(3) == b"new"
        assert ends.far is not old
        ((_, told),) = [end for end in ends.ended if end[0] == "near"]
        assert isinstance(told, PeerClosed)
        assert told.code is CloseCode.NO_SESSION
        writer.close()
        await ends.quiet()


async def test_a_restarted_client_resets_its_old_streams_at_the_server() -> None:
    gone = asyncio.Event()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(-1)
        except ConnectionResetError:
            gone.set()
        writer.close()

    async with tunnel() as ends, service(note) as port:
        _, writer = await ends.open(port)
        writer.write(b"x")
        ends.near_end.lose()
        ends.near.expire(Loss.EXPIRED)
        ends.near_end.reach()
        async with asyncio.timeout(10):
            await gone.wait()
        assert ("far", Loss.RESTARTED) in ends.ended
        writer.close()


async def test_a_machine_that_slept_begins_another_link_at_once() -> None:
    """The other end has given up the link meanwhile, but what it sent before makes it look alive."""
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        ends.near_end.woke(SILENCE - 1)
        writer.write(b"before")
        assert await reader.readexactly(6) == b"before"
        assert [what.reason for _, what in ends.changes if what.change is Change.INTERRUPTED] == []
        ends.near_end.woke(SILENCE)
        writer.write(b"after")
        assert await reader.readexactly(5) == b"after"
        assert ("near", LinkEnd.ASLEEP) in [
            (side, what.reason) for side, what in ends.changes if what.change is Change.INTERRUPTED
        ]
        assert not ends.ended
        writer.close()
        await ends.quiet()
