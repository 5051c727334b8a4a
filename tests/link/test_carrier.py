"""The carrier of one link at a time: epochs, replaced links, foreign packets."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from fuzz import datagrams
from tests.link.rig import Rig, rig
from tests.simulation import DatagramPipe, Path
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.carrier import LINKS_AT_ONCE, MTU, PACKET_ID, Carrier
from toxproxy.link.enet import BARE, EnetLink
from toxproxy.link.filter import PACKET_SIZE, connect_id


async def test_a_new_link_replaces_the_old_one_on_both_sides() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        there.near.connect()
        assert near.down == LinkEnd.REPLACED
        await there.near_links[1].until(lambda: there.near_links[1].ups == 1)
        assert far.down == LinkEnd.REPLACED
        new_near, new_far = await there.connected()
        new_near.send(b"on the new one")
        await new_far.until(lambda: new_far.packets == [b"on the new one"])
        assert not far.packets


async def test_late_datagrams_of_the_old_link_do_not_reach_the_new_one() -> None:
    pipe = DatagramPipe(1, Path(delay=0.02))
    async with rig(pipe) as there:
        there.near.connect()
        near, _ = await there.connected()
        pipe.near.hold(lambda packet: packet[1] & 0x7F == first_epoch)
        first_epoch = there.near._epoch
        for _ in range(20):
            near.send(b"stale")
        there.near.connect()
        _, new_far = await there.connected()
        pipe.near.release()
        there.near_links[-1].send(b"fresh")
        await new_far.until(lambda: len(new_far.packets) > 0)
        await asyncio.sleep(0.1)
        assert new_far.packets == [b"fresh"]


async def test_a_repeated_connect_makes_no_second_link() -> None:
    pipe = DatagramPipe(1)
    connects: list[bytes] = []

    def note(packet: bytes) -> bool:
        if connect_id(packet[2:]):
            connects.append(packet)
        return False

    pipe.near.hold(note)
    async with rig(pipe) as there:
        there.near.connect()
        await there.connected()
        for _ in range(3):
            there.far.packet_received(connects[0])
            there.far.batch_ended()
        assert len(there.far_links) == 1
        assert there.far_links[0].down is None


async def test_a_restarted_client_gets_a_link_although_the_old_one_was_not_closed() -> None:
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        async with rig(DatagramPipe(2)) as other:  # the restarted process: a new carrier for the same friend
            restarted = other.near
            restarted._send = pipe.near.send_from
            pipe.near.receive, pipe.near.batch_ended = restarted.packet_received, restarted.batch_ended
            restarted.connect()
            await other.near_links[0].until(lambda: other.near_links[0].ups == 1)
            assert far.down == LinkEnd.REPLACED
            await restarted.close()
        near.link.close()


async def test_a_connect_that_asks_for_longer_datagrams_begins_nothing() -> None:
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        packets: list[bytes] = []
        pipe.near.receive = lambda packet: None
        pipe.near.batch_ended = lambda: None
        pipe.near.hold(lambda packet: bool(packets.append(packet)))
        there.near.connect()
        greedy = bytearray(packets[0])
        assert int.from_bytes(greedy[14:18]) == MTU
        greedy[14:18] = (MTU + 1).to_bytes(4)
        there.far.packet_received(bytes(greedy))
        there.far.batch_ended()
        assert not there.far_links
        there.far.packet_received(packets[0])
        there.far.batch_ended()
        assert there.far_links[0].link._peer.mtu == MTU


async def test_packets_with_another_id_are_ignored() -> None:
    chance = random.Random(1)
    async with rig(DatagramPipe(1), honest=False) as there:
        there.near.connect()
        near, far = await there.connected()
        epoch = there.near._epoch
        for length in (0, 1, 2, 3, 54, 1373, 1374, 5000):
            for head in (b"", bytes([PACKET_ID]), bytes([PACKET_ID, epoch]), bytes([PACKET_ID, epoch ^ 1])):
                packet = (head + chance.randbytes(length))[:length]
                if not connect_id(packet[2:]):
                    there.far.packet_received(packet)
        there.far.batch_ended()
        near.send(b"still here")
        await far.until(lambda: far.packets == [b"still here"])


@pytest.mark.parametrize("size", [0, 1, 2, PACKET_SIZE + 3])
async def test_a_bare_packet_of_a_length_that_none_has_is_ignored(size: int) -> None:
    async with rig(DatagramPipe(1), honest=False) as there:
        there.near.connect()
        near, far = await there.connected()
        there.far.packet_received(bytes((PACKET_ID, there.near._epoch | BARE)) + bytes(size))
        there.far.batch_ended()
        near.send(b"good")
        await far.until(lambda: far.packets == [b"good"])


async def test_a_packet_goes_without_what_can_be_known_and_two_in_a_datagram_as_enet_writes_them() -> None:
    pipe = DatagramPipe(1)
    sent: list[bytes] = []

    def note(packet: bytes) -> bool:
        sent.append(packet)
        return False

    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        pipe.near.hold(note)
        near.send(b"alone")
        await far.until(lambda: far.packets == [b"alone"])
        for each in (b"one", b"two"):
            near.link.send(each)
        near.link.flush()
        await far.until(lambda: far.packets == [b"alone", b"one", b"two"])
        epoch = there.near._epoch
        bare, both = (packet for packet in sent if b"o" in packet)
        assert bare == bytes((PACKET_ID, epoch | BARE)) + bare[2:4] + b"alone"
        assert both[:2] == bytes((PACKET_ID, epoch))
        assert datagrams.packet(b"one", int.from_bytes(bare[2:4]) + 1) in both


async def test_packets_without_a_link_are_ignored() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.far.packet_received(bytes([PACKET_ID, 7]) + bytes(50))
        there.far.batch_ended()
        assert there.far.link is None


async def forged_connects(there: Rig, identities: range) -> None:
    """The friend sends CONNECTs of many different links at once."""
    for number in identities:
        there.far.packet_received(bytes((PACKET_ID, number % 128)) + datagrams.connect(number))
        there.far.batch_ended()


async def test_a_late_connect_of_a_link_that_was_replaced_begins_nothing() -> None:
    pipe = DatagramPipe(1)
    connects: list[bytes] = []
    pipe.near.hold(lambda packet: bool(connect_id(packet[2:])) and bool(connects.append(packet)))
    async with rig(pipe) as there:
        there.near.connect()
        await there.connected()
        there.near.connect()
        await there.near_links[1].until(lambda: there.near_links[1].ups == 1)
        near, far = await there.connected()
        for _ in range(3):
            there.far.packet_received(connects[0])
            there.far.batch_ended()
        assert len(there.far_links) == 2
        near.send(b"not disturbed")
        await far.until(lambda: far.packets == [b"not disturbed"])
        assert far.down is None


async def test_a_flood_of_connects_makes_few_links_and_then_a_restarted_client_gets_in() -> None:
    async with rig(DatagramPipe(1), honest=False) as there:
        await forged_connects(there, range(1, 1001))
        assert LINKS_AT_ONCE <= len(there.far_links) <= LINKS_AT_ONCE + 5
        there.near.connect()
        near, far = await there.connected()  # the CONNECT is repeated until one is accepted
        near.send(b"in")
        await far.until(lambda: far.packets == [b"in"])


async def test_a_client_restarted_again_and_again_gets_a_link_at_once() -> None:
    async with rig(DatagramPipe(1)) as there:
        for restarts in range(1, 6):
            there.near._epoch = random.randrange(256)
            there.near.connect()
            await there.near_links[-1].until(lambda: there.near_links[-1].ups == 1)
            assert len(there.far_links) == restarts, "the first CONNECT was not enough"


async def test_a_carrier_that_closes_takes_no_other_link() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        far.link.close(b"farewell")
        closing = asyncio.create_task(there.far.close())
        await near.until(lambda: near.packets == [b"farewell"])
        there.near.connect()
        async with asyncio.timeout(5):
            await closing
        assert len(there.far_links) == 1
        assert there.far.link is not None
        assert there.far.link.freed.is_set()


async def test_the_side_that_connects_takes_no_connect() -> None:
    async with rig(DatagramPipe(1), honest=False) as there:
        there.near.connect()
        near, far = await there.connected()
        for number in (1, 2, 3):
            there.near.packet_received(bytes((PACKET_ID, number)) + datagrams.connect(number))
            there.near.batch_ended()
        assert len(there.near_links) == 1
        assert near.down is None
        far.send(b"still here")
        await near.until(lambda: near.packets == [b"still here"])


async def test_the_connecting_side_accepts_no_connect_before_its_own() -> None:
    sent: list[int] = []

    def send(pointer: Any, length: int) -> bool:
        sent.append(length)
        return True

    def own(link: EnetLink) -> LinkOwner:
        raise AssertionError("a link was made")

    near = Carrier(send, own, connecting=True)
    near.packet_received(bytes((PACKET_ID, 1)) + datagrams.connect(1))
    near.batch_ended()
    assert near.link is None
    assert sent == []


async def test_a_connect_with_settings_of_its_own_begins_nothing() -> None:
    async with rig(DatagramPipe(1), honest=False) as there:
        for settings in (
            (4096, 1, 0, 0, 5000, 2, 2),
            (65536, 255, 0, 0, 5000, 2, 2),
            (65536, 1, 9, 9, 5000, 2, 2),
        ):
            datagram = datagrams.connect(7, settings=settings)
            there.far.packet_received(bytes((PACKET_ID, 1)) + datagram)
        assert not there.far_links
