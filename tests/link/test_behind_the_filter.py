"""A real ENet behind the filter, and a peer that lies to it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path as File

import pytest
import pytest_asyncio

from fuzz import datagrams as dg
from tests.link.rig import Diary, Rig, rig
from tests.link.test_filter import LIES
from tests.simulation import DatagramPipe, Path
from toxproxy.link import enet as subject
from toxproxy.link.carrier import PACKET_ID
from toxproxy.link.filter import PACKET_SIZE


def rss() -> int:
    """Bytes of this process in memory."""
    return int(File("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Liar:
    """Sends `to` whatever it likes on the link that it has with it."""

    def __init__(self, there: Rig, near: Diary, far: Diary, *, to_far: bool) -> None:
        self.there = there
        self.victim = far if to_far else near
        self.answers: list[bytes] = []
        self._carrier = there.far if to_far else there.near
        self._head = bytes((PACKET_ID, there.near._epoch))
        (there.pipe.far if to_far else there.pipe.near).hold(lambda packet: bool(self.answers.append(packet)))

    def send(self, *datagrams: bytes) -> None:
        """All of them at once."""
        for datagram in datagrams:
            self._carrier.packet_received(self._head + datagram)
        self._carrier.batch_ended()


@pytest_asyncio.fixture(params=["to the server", "to the client"])
async def liar(request: pytest.FixtureRequest) -> AsyncIterator[Liar]:
    async with rig(DatagramPipe(1), honest=False) as there:
        there.near.connect()
        near, far = await there.connected()
        liar = Liar(there, near, far, to_far=request.param == "to the server")
        liar.send(dg.untimed(dg.packet(b"true", 1)))
        assert liar.victim.packets == [b"true"]
        liar.victim.packets.clear()
        yield liar
        liar.send(dg.untimed(dg.packet(b"still here", _free_group(liar))))
        assert liar.victim.packets[-1:] == [b"still here"]


def _free_group(liar: Liar) -> int:
    """The group of an unsequenced packet that ENet has not seen, and takes for none that is late."""
    now: int = liar.victim.link._peer.incomingUnsequencedGroup
    return (now + 1024) & 0xFFFF


async def test_no_lie_reaches_enet(liar: Liar) -> None:
    link = liar.victim.link
    before = link._host.totalReceivedPackets
    liar.send(*LIES.values())
    assert link._host.totalReceivedPackets == before
    assert not liar.victim.packets
    dropped = liar.there.said.count("dropped a datagram of %d bytes that no link sends")
    assert dropped == len(LIES) - 2  # the carrier drops the empty and the long one itself


async def test_reliable_data_and_fragments_cost_no_memory_and_are_not_delivered(liar: Liar) -> None:
    """ENet would keep the frames for a gap, and clear 128 KiB for a fragment of a million parts."""
    before = rss()
    for start in range(2, 2000):
        liar.send(
            dg.timed(dg.reliable(0, start, bytes(1300))),
            dg.timed(*(dg.fragment(0, start, 0, 1 << 20, 1, b"") for _ in range(20))),
            dg.timed(dg.fragments(0, start, bytes(16384))[0]),
            dg.timed(dg.fragment(0, start, 0, 1, 16384, b"\x13" + bytes(12))),
        )
    assert not liar.victim.packets
    assert rss() - before < 16_000_000


async def test_each_ping_is_answered_with_eight_bytes_and_nothing_stays(liar: Liar) -> None:
    before = rss()
    datagram = dg.timed(*(dg.ping(n) for n in range(16)))
    liar.answers.clear()
    sent = 0
    for _ in range(200):
        liar.send(*[datagram] * 100)
        await asyncio.sleep(0)  # the rest of them is handled
        sent += 100 * len(datagram)
        assert sum(map(len, liar.answers)) <= 2.2 * sent
    assert rss() - before < 16_000_000 + sum(map(len, liar.answers))


async def test_acknowledgements_of_what_was_never_sent_change_nothing(liar: Liar) -> None:
    chance = random.Random(5)
    for _ in range(300):
        acks = (dg.ack(0xFF, chance.randrange(1 << 16), chance.randrange(1 << 16)) for _ in range(32))
        liar.send(dg.untimed(*acks))
    assert liar.victim.down is None
    assert liar.victim.link._peer.packetThrottle == 32


async def test_groups_far_ahead_and_far_behind_lose_packets_and_nothing_else(liar: Liar) -> None:
    """ENet remembers 1024 groups, and takes no packet of a block of groups before them."""
    chance = random.Random(6)
    for group in (2, 1023, 1024, 1025, 30000, 3, 0xFFFF, 0, 1, 40000):
        liar.send(dg.untimed(dg.packet(group.to_bytes(2), group)))
        liar.send(dg.untimed(dg.packet(group.to_bytes(2), group)))
    for _ in range(2000):
        liar.send(dg.untimed(dg.packet(b"x", chance.randrange(1 << 16))))
    counts = [liar.victim.packets.count(group.to_bytes(2)) for group in (2, 1023, 1024, 1025)]
    assert counts == [1, 1, 1, 1], "each once"
    assert liar.victim.down is None


async def test_the_settings_of_the_throttle_are_those_of_a_link_or_none(liar: Liar) -> None:
    for slower in (0, 1, 2, 32):
        liar.send(dg.timed(dg.throttle(900, slower=slower)))
        assert liar.victim.link._peer.packetThrottleDeceleration == 0


def any_command(chance: random.Random, data: bytes) -> bytes:
    """A command that ENet knows, allowed or not."""
    number = chance.randrange(1 << 16)
    return chance.choice(
        (
            dg.packet(data, number, channel=chance.choice((0, 0, 1))),
            dg.reliable(0, number % 100, data),
            dg.ping(number),
            dg.ack(chance.choice((0, 0xFF)), number),
            chance.choice(dg.fragments(0, number % 100, bytes(4000))),
        )
    )


async def test_whatever_comes_in_whatever_order_only_whole_packets_are_delivered(liar: Liar) -> None:
    chance = random.Random(3)
    for _ in range(3000):
        commands = [
            any_command(chance, chance.randbytes(chance.choice((1, 2, 30, PACKET_SIZE)))) for _ in "12"
        ]
        datagram = bytearray(chance.choice((dg.timed, dg.untimed))(*commands))
        if chance.random() < 0.3:
            datagram[chance.randrange(len(datagram))] ^= 1 << chance.randrange(8)
        if not (datagram[0] == 0x80 and datagram[4] == 0x44) and datagram[2] != 0x44:
            liar.send(bytes(datagram))
    assert liar.victim.down is None
    assert all(0 < len(packet) <= PACKET_SIZE for packet in liar.victim.packets)


async def test_packets_before_the_link_is_up_are_dropped_and_bring_the_answer_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The peer is up, and this side is not: the acknowledgement of its answer was lost."""
    monkeypatch.setattr(subject, "_REPEAT", 60.0)
    monkeypatch.setattr(subject, "_LEAST_REPEAT", 0.01)
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        lost: list[bytes] = []
        there.near.connect()
        near = there.near_links[0]
        pipe.near.hold(lambda packet: len(there.far_links) > 0 and not lost and not lost.append(packet))
        await near.until(lambda: near.ups == 1)
        assert lost
        far = there.far_links[0]
        assert not far.ups
        await asyncio.sleep(0.02)
        near.send(b"early")
        await far.until(lambda: far.ups == 1)
        near.send(b"later")
        await far.until(lambda: b"later" in far.packets)
        assert b"early" not in far.packets


async def test_all_that_two_links_send_each_other_passes() -> None:
    """Connecting, packets of every size both ways, loss, doubles, another order, silence, the end."""
    pipe = DatagramPipe(9, Path(delay=0.005, loss=0.05), duplication=0.05, reordering=0.1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        chance = random.Random(9)
        sizes = [1, 2, 16, 17, 1342, 1343, *(chance.randrange(1, 1344) for _ in range(400))]
        sizes += [chance.randrange(1, 60) for _ in range(400)]
        packets = [chance.randbytes(size) for size in sizes]
        for at in range(0, len(packets), 20):
            for diary in (near, far):
                assert not diary.send(*packets[at : at + 20])
            await asyncio.sleep(0.001)
        await asyncio.sleep(2.5)  # a ping
        for diary in (near, far):
            assert len(diary.packets) > 600
            assert set(diary.packets) <= set(packets)
        there.near.connect()  # another one, at once
        near, far = await there.connected()
        near.send(*packets[:20])
        near.link.close(b"farewell")
        await far.until(lambda: far.down is not None or b"farewell" in far.packets)
