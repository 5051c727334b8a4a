"""A real ENet behind the filter, and a peer that lies to it."""

from __future__ import annotations

import asyncio
import os
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path as File

import pytest_asyncio

from fuzz import datagrams as dg
from fuzz.insides import agree, waiting
from tests.link.rig import Diary, Rig, rig
from tests.simulation import DatagramPipe, Path
from toxproxy.link.carrier import PACKET_ID
from toxproxy.link.filter import MOST_FRAMES, MOST_HELD


def rss() -> int:
    """Bytes of this process in memory."""
    return int(File("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Liar:
    """Sends `to` whatever it likes on the link that it has with it."""

    def __init__(self, there: Rig, near: Diary, far: Diary, *, to_far: bool) -> None:
        self.victim = far if to_far else near
        self._carrier = there.far if to_far else there.near
        self._head = bytes((PACKET_ID, there.near._epoch))

    def send(self, *datagrams: bytes) -> None:
        """All of them at once."""
        for datagram in datagrams:
            self._carrier.packet_received(self._head + datagram)
        self._carrier.batch_ended()
        agree(self.victim.link)


@pytest_asyncio.fixture(params=["to the server", "to the client"])
async def liar(request: object) -> AsyncIterator[Liar]:
    async with rig(DatagramPipe(1), honest=False) as there:
        there.near.connect()
        near, far = await there.connected()
        liar = Liar(there, near, far, to_far=request.param == "to the server")  # type: ignore[attr-defined]
        liar.send(dg.timed(dg.reliable(0, 1, b"true")))
        assert liar.victim.frames == [(0, b"true")]
        liar.victim.frames.clear()
        yield liar
        liar.send(dg.timed(dg.reliable(0, 2, b"still here")))
        assert liar.victim.frames[-1:] == [(0, b"still here")]


async def test_a_fragment_that_declares_more_than_it_brings_is_never_delivered(liar: Liar) -> None:
    """ENet would hand over 16,384 bytes, of which 13 came: the others are whatever was in its memory."""
    for total in (40, 1000, 1344, 16384):
        liar.send(dg.timed(dg.fragment(1, 1, 0, 1, total, b"\x13" + bytes(12))))
    part = bytes(dg.PART)
    liar.send(  # two that are at one place, and leave another empty
        dg.timed(dg.fragment(1, 1, 0, 2, 2 * dg.PART, part)),
        dg.timed(dg.fragment(1, 1, 1, 2, 2 * dg.PART, part, offset=0)),
    )
    assert not liar.victim.frames


async def test_fragments_that_declare_a_million_parts_cost_no_memory(liar: Liar) -> None:
    """ENet would clear 128 KiB for each: 448 MB here."""
    before = rss()
    for at in range(64):
        liar.send(dg.timed(*(dg.fragment(200, 2 + 56 * at + n, 0, 1 << 20, 1, b"") for n in range(56))))
    assert rss() - before < 32_000_000
    assert waiting(liar.victim.link) == 0
    assert liar.victim.link.stats.datagrams_rejected == 64


async def test_frames_in_falling_order_are_few(liar: Liar) -> None:
    """ENet looks for the place of each from the end of those that it has."""
    link = liar.victim.link
    for channel in range(100, 104):
        numbers = range(28671, 1, -1)
        liar.send(
            *(
                dg.timed(*(dg.reliable(channel, n, b"x") for n in numbers[at : at + 32]))
                for at in range(0, len(numbers), 32)
            )
        )
    assert link._filter.held.frames <= 4 * MOST_FRAMES


async def test_fragments_that_never_complete_stay_within_the_limit(liar: Liar) -> None:
    before = rss()
    for channel in range(1, 255):
        for start in range(2, 1000, 13):
            liar.send(dg.timed(dg.fragments(channel, start, bytes(16384))[0]))
            if not liar.victim.link._filter.held.bytes < MOST_HELD - 20000:
                break
    assert MOST_HELD // 2 < waiting(liar.victim.link) <= MOST_HELD
    assert rss() - before < 3 * MOST_HELD


async def test_a_full_link_still_takes_what_closes_its_gaps(liar: Liar) -> None:
    """Otherwise it would stand still for ever."""
    frames = [struct.pack("!I", number) * 2500 for number in range(1, 1200)]
    starts = range(1, 1 + 8 * len(frames), 8)
    pieces = [dg.fragments(1, start, frame) for start, frame in zip(starts, frames, strict=True)]
    for ahead in pieces[1:]:
        liar.send(*map(dg.timed, ahead))
    link = liar.victim.link
    assert link.stats.datagrams_rejected, "not all of them fit"
    liar.send(*map(dg.timed, pieces[0]))
    assert len(liar.victim.frames) > 500
    for late in pieces[len(liar.victim.frames) :]:
        liar.send(*map(dg.timed, late))
    assert [frame for _, frame in liar.victim.frames] == frames
    assert waiting(link) == 0


async def test_frames_that_contradict_each_other_stop_no_channel(liar: Liar) -> None:
    """Frames that share a number would stay in ENet's list, in front of all that follows."""
    pieces = dg.fragments(1, 1, b"a" * 4000)
    liar.send(dg.timed(pieces[0]), dg.timed(dg.reliable(1, 2, b"a lie"), dg.reliable(1, 3, b"a lie")))
    liar.send(dg.timed(pieces[0]), dg.timed(dg.fragments(1, 2, b"b" * 3000)[0]))
    liar.send(dg.timed(dg.fragments(1, 1, b"b" * 4001)[2]), dg.timed(pieces[1]), dg.timed(pieces[2]))
    liar.send(dg.timed(dg.reliable(1, 4, b"true"), dg.reliable(1, 5, b"too")))
    assert liar.victim.frames == [(1, b"a" * 4000), (1, b"true"), (1, b"too")]


async def test_the_filter_and_enet_agree_whatever_comes_in_whatever_order(liar: Liar) -> None:
    chance = random.Random(3)
    for _ in range(1500):
        channel, start = chance.randrange(1, 4), chance.randrange(1, 60)
        if chance.random() < 0.5:
            command = dg.reliable(channel, start, bytes((start,)) * chance.randrange(1, 40))
        else:
            command = chance.choice(
                dg.fragments(channel, start, bytes((start,)) * chance.randrange(1344, 6000))
            )
        liar.send(dg.timed(command))
    assert all(len(set(frame)) == 1 for _, frame in liar.victim.frames)


async def test_what_comes_before_a_link_is_up_does_not_count() -> None:
    """Frames whose acknowledgement of the handshake was lost: ENet throws them away."""
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        acknowledgements: list[bytes] = []
        there.near.connect()
        pipe.near.hold(lambda packet: len(there.far_links) > 0)
        near = there.near_links[0]
        await near.until(lambda: near.ups == 1)
        near.link.send(1, b"first")
        near.link.flush()
        far = there.far_links[0]
        epoch = there.near._epoch
        early = bytes((PACKET_ID, epoch)) + dg.timed(dg.reliable(1, 1, b"first"))
        assert far.ups == 0
        there.far.packet_received(early)
        there.far.batch_ended()
        assert not far.frames
        assert not acknowledgements
        pipe.near.release()
        await far.until(lambda: far.frames == [(1, b"first")])
        agree(far.link)


async def test_all_that_two_links_send_each_other_passes() -> None:
    """Connecting, frames of every size both ways, loss, doubles, another order, silence, the end."""
    pipe = DatagramPipe(9, Path(delay=0.005, loss=0.05), duplication=0.05, reordering=0.1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        chance = random.Random(9)
        sizes = [
            1,
            1342,
            1343,
            1344,
            2686,
            2687,
            16383,
            16384,
            *(chance.randrange(1, 16384) for _ in range(150)),
        ]
        frames = [(chance.randrange(255), chance.randbytes(size)) for size in sizes]
        async with asyncio.TaskGroup() as group:
            group.create_task(near.push(frames))
            group.create_task(far.push(frames))
            group.create_task(far.until(lambda: len(far.frames) == len(frames)))
            group.create_task(near.until(lambda: len(near.frames) == len(frames)))
        await asyncio.sleep(2.5)  # a ping
        for diary in (near, far):
            agree(diary.link)
        there.near.connect()  # another one, at once
        near, far = await there.connected()
        await near.push(frames[:20])
        await far.until(lambda: len(far.frames) == 20)
        near.link.close()
        await far.until(lambda: far.down is not None)
