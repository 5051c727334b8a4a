"""Sessions over paths that lose, double, reorder and are cut, with real ENet: every byte arrives, once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.simulation import Path
from tests.tunnel.ends import Ends, echo, service, tunnel
from tests.tunnel.test_resuming import fetch
from toxproxy.errors import CloseCode
from toxproxy.link.base import LinkEnd
from toxproxy.recovery.packet import ids
from toxproxy.tunnel.events import Change, PeerClosed, SessionEvent

LOSSY = Path(delay=0.01, loss=0.05, rate=20e6)


def first(count: int, marked: bytes) -> Callable[[bytes], bool]:
    """Whether a datagram is one of the first `count` that contain `marked`."""
    left = count

    def is_one(datagram: bytes) -> bool:
        nonlocal left
        if marked not in datagram or not left:
            return False
        left -= 1
        return True

    return is_one


def source(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]:
    """A service that sends `data` and reads what comes until its end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.write_eof()
        await reader.read(-1)
        writer.close()

    return serve


async def test_streams_are_whole_both_ways_over_a_path_that_loses_doubles_and_reorders() -> None:
    chance = random.Random(5)
    files = [chance.randbytes(chance.choice((1, 900, 30_000, 400_000))) for _ in range(60)]
    async with tunnel(LOSSY, duplication=0.02, reordering=0.05) as ends, service(echo) as port:
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(fetch(ends, port, file) for file in files))
        assert answers == files
        await ends.quiet()
        assert {what for _, what in ends.changes} == {SessionEvent(Change.BEGAN)}


async def test_after_a_cut_of_seconds_a_download_goes_on_over_the_same_link() -> None:
    path = Path(delay=0.01, rate=4e6)
    data = random.Random(6).randbytes(6_000_000)
    async with tunnel(path) as ends, service(source(data)) as port:  # type: ignore[arg-type]
        link = ends.near_end.carrier.link
        reader, writer = await ends.open(port)
        start = await reader.readexactly(1_000_000)
        ends.pipe.path = replace(path, loss=1.0)
        await asyncio.sleep(4)
        ends.pipe.path = path
        async with asyncio.timeout(30):
            assert start + await reader.read(-1) == data
        writer.close()
        await ends.quiet()
        assert ends.near_end.carrier.link is link
        assert {what for _, what in ends.changes} == {SessionEvent(Change.BEGAN)}


@pytest.mark.parametrize("loss", [0.0, 0.05])
async def test_another_link_amid_transfers_in_both_directions_loses_and_doubles_nothing(loss: float) -> None:
    chance = random.Random(7)
    files = [chance.randbytes(2_000_000) for _ in range(3)]
    async with tunnel(Path(delay=0.01, loss=loss, rate=8e6)) as ends, service(echo) as port:
        fetching = asyncio.gather(*(fetch(ends, port, file) for file in files))
        for number in range(1, 4):
            await asyncio.sleep(0.2)
            assert ends.near_end.carrier.link is not None
            ends.near_end.carrier.link.fail(LinkEnd.SILENT)
            async with asyncio.timeout(20):
                while ends.changes.count(("near", SessionEvent(Change.RESUMED))) < number:
                    await asyncio.sleep(0.005)
        assert not fetching.done()
        async with asyncio.timeout(60):
            assert await fetching == files
        await ends.quiet()
        assert not ends.ended


@pytest.mark.parametrize("side", ["near", "far"])
async def test_a_session_ends_although_the_first_close_is_lost(side: str) -> None:
    async with tunnel() as ends:
        pipe, session = (ends.pipe.near, ends.near) if side == "near" else (ends.pipe.far, ends.far)
        pipe.hold(first(1, b"maintenance"))
        session.close("maintenance")
        other = "far" if side == "near" else "near"
        async with asyncio.timeout(5):
            while (other, PeerClosed(CloseCode.STOPPING, "maintenance")) not in ends.ended:
                await asyncio.sleep(0.005)
        assert pipe._held, "nothing was lost"


async def another_link(ends: Ends) -> None:
    ends.near_end.lose()
    ends.near_end.reach()
    await ends.resumed()


async def test_a_link_whose_first_packets_are_lost_resumes_the_session() -> None:
    async with tunnel(Path(delay=0.01)) as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        introduction = ids(*ends.near._ids)
        ends.pipe.near.hold(first(3, introduction))
        await another_link(ends)
        assert len(ends.pipe.near._held) == 3
        ends.pipe.far.hold(first(3, b""))
        await another_link(ends)
        writer.write(b"still")
        async with asyncio.timeout(10):
            assert await reader.readexactly(5) == b"still"
        assert not ends.ended
        writer.close()
        await ends.quiet()


async def test_the_server_takes_the_link_although_the_client_was_not_told_its_session_id() -> None:
    """What the server answers is lost with the first link. The client begins another session."""
    async with tunnel(Path(delay=0.01)) as ends, service(echo) as port:
        ends.near.close("again")
        ends.pipe.far.hold(lambda datagram: len(datagram) > 60, 3.0)  # HELLO, but not ENet's own
        await ends.resumed()
        reader, writer = await ends.open(port)
        writer.write(b"there")
        async with asyncio.timeout(10):
            assert await reader.readexactly(5) == b"there"
        writer.close()
        await ends.quiet()


async def test_what_a_full_carrier_refuses_is_sent_again() -> None:
    async with tunnel(Path(delay=0.005)) as ends, service(echo) as port:
        data = random.Random(8).randbytes(500_000)
        fetching = asyncio.create_task(fetch(ends, port, data))
        for _ in range(5):
            ends.refusing = True
            await asyncio.sleep(0.05)
            ends.refusing = False
            await asyncio.sleep(0.01)
        async with asyncio.timeout(30):
            assert await fetching == data
        await ends.quiet()
        assert SessionEvent(Change.INTERRUPTED, LinkEnd.SILENT) not in {what for _, what in ends.changes}


async def test_a_carrier_that_refuses_for_seconds_is_asked_with_few_packets() -> None:
    """ENet numbers them. Its peer drops all that are 32,768 or more ahead of the last that came, for good."""
    async with tunnel(Path(delay=0.005)) as ends, service(echo) as port:
        data = random.Random(9).randbytes(2_000_000)
        fetching = asyncio.create_task(fetch(ends, port, data))
        await asyncio.sleep(0.1)
        before = ends.near.recovery.flight.next_number
        ends.refusing = True
        await asyncio.sleep(4)
        asked = ends.near.recovery.flight.next_number - before
        ends.refusing = False
        async with asyncio.timeout(30):
            assert await fetching == data
        assert asked < 200
        await ends.quiet()


async def test_an_idle_session_seldom_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnel() as ends, service(echo) as port:
        await fetch(ends, port, bytes(100_000))
        await ends.quiet()
        await asyncio.sleep(0.5)
        wakes = 0
        for session in (ends.near, ends.far):
            run = session._timer._call

            def counted(run: Callable[[], object] = run) -> None:
                nonlocal wakes
                wakes += 1
                run()

            monkeypatch.setattr(session._timer, "_call", counted)
        await asyncio.sleep(1)
        assert wakes < 10
