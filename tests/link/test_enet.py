"""The link: real ENet over a datagram pipe, on good and bad paths."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import product
from typing import Any

import enet
import pytest
import pytest_asyncio

from fuzz import datagrams as dg
from tests.link.rig import Diary, Rig, rig
from tests.simulation import DatagramPipe, Path
from toxproxy.link import enet as subject
from toxproxy.link import exports
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import MAX_PACKET
from toxproxy.link.enet import EnetLink
from toxproxy.link.filter import PACKET_SIZE, connect_id
from toxproxy.system import batch
from toxproxy.system.batch import MOST

COUNTS = (1, 2, 3, 4, 5, 47, 48, 49, 96)


def has(diary: Diary, count: int) -> bool:
    """Whether so many packets came."""
    return len(diary.packets) >= count


def some_packets(seed: int, count: int, most: int = PACKET_SIZE) -> list[bytes]:
    chance = random.Random(seed)
    return [n.to_bytes(4) + chance.randbytes(chance.randrange(most - 3)) for n in range(count)]


async def exchange(there: Rig, count: int) -> tuple[Diary, Diary]:
    """Send packets both ways on a path that loses none. Check that all arrive, each once."""
    near, far = await there.connected()
    up, down = some_packets(1, count), some_packets(2, count)
    for at in range(0, count, 10):
        assert near.send(*up[at : at + 10]) == far.send(*down[at : at + 10]) == 0
        await asyncio.sleep(0)
    await far.until(lambda: len(far.packets) >= count)
    await near.until(lambda: len(near.packets) >= count)
    assert sorted(far.packets) == up
    assert sorted(near.packets) == down
    return near, far


async def test_packets_cross_a_perfect_path() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await exchange(there, 400)
        assert near.ups == far.ups == 1


async def test_more_packets_at_once_than_a_socket_holds_all_arrive() -> None:
    async with rig(DatagramPipe(1, queue=1e9)) as there:
        there.near.connect()
        near, far = await there.connected()
        packets = [n.to_bytes(4) + bytes(PACKET_SIZE - 4) for n in range(2000)]
        assert near.send(*packets) == 0
        await far.until(lambda: len(far.packets) == len(packets))
        assert far.packets == packets


async def test_the_owner_is_told_of_the_end_of_a_batch_that_fills_the_inbox_to_the_last_place() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        there.pipe.near.hold(lambda datagram: True)
        near.send(*(bytes(PACKET_SIZE) for _ in range(MOST)))
        readies = far.readies
        assert len(there.pipe.near._held) == MOST
        for datagram in there.pipe.near._held:
            there.far.packet_received(datagram)
        there.far.batch_ended()
        assert len(far.packets) == MOST
        assert far.readies == readies + 1
        there.far.batch_ended()
        assert far.readies == readies + 1


async def test_other_work_has_its_turn_while_many_packets_are_handled() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        there.pipe.near.hold(lambda datagram: True)
        packets = [n.to_bytes(4) + bytes(PACKET_SIZE - 4) for n in range(8 * MOST)]
        near.send(*packets)
        for datagram in there.pipe.near._held:
            there.far.packet_received(datagram)
        there.far.batch_ended()
        readies = far.readies
        assert len(far.packets) < len(packets)
        await far.until(lambda: len(far.packets) == len(packets))
        assert far.packets == packets
        assert far.readies > readies


async def test_packets_of_mixed_sizes_that_come_at_once_all_arrive() -> None:
    """Long runs of one size, with others among them."""
    async with rig(DatagramPipe(1, queue=1e9)) as there:
        there.near.connect()
        near, far = await there.connected()
        chance = random.Random(1)
        sent = []
        for _ in range(100):
            packets = [bytes(1000)] * chance.randrange(1, 30) + [bytes(chance.randrange(1, 1344))]
            near.send(*packets)
            sent += packets
        await far.until(lambda: len(far.packets) == len(sent))
        assert far.packets == sent


async def test_a_system_that_cannot_join_datagrams_loses_some_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        near.send(b"first")
        await far.until(lambda: far.packets == [b"first"])
        assert near.link._joins == near.link._cork.works
        monkeypatch.setattr(near.link._cork, "end", lambda: None)
        near.send(*[bytes(PACKET_SIZE)] * 9)
        monkeypatch.undo()
        near.link._cork.end()
        near.link._outbox.receive(48)
        far.packets.clear()
        near.send(*[bytes(PACKET_SIZE)] * 9)
        await far.until(lambda: len(far.packets) == 9)
        assert not near.link._joins


@pytest.mark.parametrize("size", [1, 16, 665, 666, 667, 1000, 1342, 1343])
async def test_packets_of_one_size_arrive_whatever_the_last_one_has(size: int) -> None:
    """They are joined on their way to the shim, where ENet puts each into a datagram of its own."""
    async with rig(DatagramPipe(1, queue=1e9)) as there:
        there.near.connect()
        near, far = await there.connected()
        near.send(b"first")
        await far.until(lambda: far.packets == [b"first"])
        far.packets.clear()
        sent: list[bytes] = []
        for count, last in product(COUNTS, (1, 2, 7, 8, 9, size // 2 + 1, size - 1, size)):
            packets = [bytes([n]) * size for n in range(count)] + [b"z" * max(1, last)]
            near.link._peer.ping()
            near.link._service()
            assert near.send(*packets) == 0
            sent += packets
            await far.until(partial(has, far, len(sent)))
        assert far.packets == sent


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_what_a_bad_path_delivers_is_passed_on_and_nothing_else_is(seed: int) -> None:
    pipe = DatagramPipe(seed, Path(delay=0.005, loss=0.05), duplication=0.05, reordering=0.1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        packets = some_packets(seed, 2000)
        for at in range(0, len(packets), 20):
            near.send(*packets[at : at + 20])
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert len(far.packets) > 0.9 * len(packets), "only the path loses packets"
        assert set(far.packets) <= set(packets)
        assert len(set(far.packets)) == len(far.packets), "ENet drops the doubles"


async def test_without_enets_functions_links_work_with_its_own_patience(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(enet, "__file__", "/nowhere.so")
    exports._library.cache_clear()
    async with rig(DatagramPipe(4, Path(delay=0.005))) as there:
        there.near.connect()
        await exchange(there, 50)
    exports._library.cache_clear()
    assert caplog.text.count("this build of ENet") == 1


async def test_without_batches_of_system_calls_links_work_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_library", lambda: None)
    async with rig(DatagramPipe(4, Path(delay=0.005))) as there:
        there.near.connect()
        await exchange(there, 300)


async def test_no_packet_is_larger_than_tox_carries_and_none_is_cut() -> None:
    pipe = DatagramPipe(5)
    sizes: list[int] = []

    def note(packet: bytes) -> bool:
        sizes.append(len(packet))
        return False

    pipe.near.hold(note)
    pipe.far.hold(note)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        near.send(bytes(PACKET_SIZE))
        await far.until(lambda: far.packets == [bytes(PACKET_SIZE)])
    assert max(sizes) == PACKET_SIZE + 4 <= MAX_PACKET


async def test_enet_drops_nothing_by_itself_on_a_path_whose_delay_jumps() -> None:
    """ENet's own throttle would close here: the handshake takes more than half a second."""
    pipe = DatagramPipe(6, Path(delay=0.3), reordering=0.3)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        for _ in range(20):
            for diary in (near, far):
                diary.link._peer.ping()
                assert diary.link._peer.packetThrottle == 32
            packets = some_packets(6, 5)
            near.send(*packets)
            await asyncio.sleep(0.02)
        await far.until(lambda: len(far.packets) == 100)
        for diary in (near, far):
            assert diary.link._peer.packetThrottle == 32


# Connecting


class Lossy:
    """Counts the datagrams of a kind that one end sends, and loses the first ones."""

    def __init__(self, lose: int, kind: Callable[[bytes], bool]) -> None:
        self.seen = 0
        self._lose = lose
        self._kind = kind

    def __call__(self, packet: bytes) -> bool:
        if not self._kind(packet):
            return False
        self.seen += 1
        return self.seen <= self._lose


def is_verify(packet: bytes) -> bool:
    return len(packet) == 50 and packet[6] == 0x83


async def test_a_lost_connect_is_repeated_by_the_link_itself() -> None:
    """ENet would repeat it after 0.5, 1.5, 3.5 and 7.5 seconds."""
    pipe = DatagramPipe(1)
    lossy = Lossy(3, lambda packet: connect_id(packet[2:]) is not None)
    pipe.near.hold(lossy)
    async with rig(pipe) as there:
        there.near.connect()
        await there.near_links[0].until(lambda: there.near_links[0].ups == 1, 2.5)
        assert lossy.seen <= 5  # ENet repeats it once, too, when it is called with the answer
        assert len(there.far_links) == 1


async def test_a_lost_answer_is_given_again_to_a_connect_that_comes_again() -> None:
    pipe = DatagramPipe(1)
    lossy = Lossy(3, is_verify)
    pipe.far.hold(lossy)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        assert len(there.far_links) == 1
        near.send(b"there")
        await far.until(lambda: far.packets == [b"there"])
        assert far.ups == near.ups == 1


async def test_a_link_that_is_not_answered_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MEETING", 1.2)
    async with rig(DatagramPipe(1, Path(loss=1))) as there:
        there.near.connect()
        near = there.near_links[0]
        await near.until(lambda: near.down is not None, 3)
        assert near.down == LinkEnd.UNANSWERED
        assert near.link.freed.is_set()


# Silence


async def test_an_idle_link_hardly_wakes_and_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """One ping in two seconds, and its answer."""
    monkeypatch.setattr(subject, "SILENCE", 4.0)
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        await asyncio.sleep(0.3)
        services = 0
        original = EnetLink._service

        def counted(self: EnetLink) -> None:
            nonlocal services
            services += 1
            original(self)

        monkeypatch.setattr(EnetLink, "_service", counted)
        sent: list[bytes] = []
        for end in (there.pipe.near, there.pipe.far):
            end.hold(lambda datagram: bool(sent.append(datagram)))
        await asyncio.sleep(5)
        assert near.down is far.down is None
        assert services <= 14
        assert 2 <= len(sent) <= 12


async def test_a_link_that_hears_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "SILENCE", 2.5)
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        pipe.far.hold(lambda _: True)
        await near.until(lambda: near.down is not None, 6)
        assert near.down == LinkEnd.SILENT
        assert far.down is None


async def test_a_path_that_comes_back_is_found_within_two_seconds() -> None:
    """ENet's own ping would wait twice as long each time: here until eight seconds after the cut."""
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        pipe.near.hold(lambda _: True)
        pipe.far.hold(lambda _: True)
        await asyncio.sleep(6)
        pipe.near._held.clear()
        pipe.far._held.clear()
        pipe.near.release()
        pipe.far.release()
        back = asyncio.get_running_loop().time()
        await near.until(lambda: near.link.heard > back, 1.8)
        await far.until(lambda: far.link.heard > back, 1.8)


async def test_a_carrier_that_fails_does_not_make_a_link_live_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, seconds in (("_QUIET", 0.2), ("_QUIETER", 0.1), ("SILENCE", 0.8)):
        monkeypatch.setattr(subject, name, seconds)
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what["message"]))
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, _ = await there.connected()
        monkeypatch.setattr(near.link, "_send", None)
        await near.until(lambda: near.down is not None, 5)
        assert near.down == LinkEnd.SILENT
        assert complaints


# What the carrier refuses


async def test_packets_that_the_carrier_refuses_are_counted_and_they_are_the_last() -> None:
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        send, room = pipe.near.send_from, 3

        def narrow(pointer: Any, length: int) -> bool:
            nonlocal room
            room -= 1
            return (
                room >= 0 and send(pointer, length)
            ) or room == -2  # it would take the one after that again

        there.near.link._send = narrow  # type: ignore[union-attr]
        packets = [bytes([n]) * 1000 for n in range(10)]
        assert near.send(*packets) == 7
        assert near.link.flush() == 0
        await far.until(lambda: far.packets == packets[:3])
        room = 1
        small = [bytes([n]) * 10 for n in range(10)]  # all in one datagram
        assert near.send(*small) == 0
        assert near.send(*small) == 10
        room = 100
        assert near.send(b"again") == 0
        await far.until(lambda: far.packets[-1:] == [b"again"])


async def test_what_is_sent_before_a_link_is_up_or_after_it_ended_is_dropped() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        early = there.near_links[0]
        assert early.send(b"early") == 0
        near, far = await there.connected()
        near.send(b"now")
        await far.until(lambda: far.packets == [b"now"])
        near.link.close()
        assert near.send(b"late") == 0
        near.link.close()
        near.link.fail(LinkEnd.FAILED)
        assert near.down is None, "the owner is not told of what it did itself"


# The end


async def test_closing_tells_the_peer_at_once() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        near.link.close()
        assert near.link.freed.is_set()
        await far.until(lambda: far.down is not None)
        assert far.down == LinkEnd.PEER_ENDED


async def test_a_link_that_the_peer_ended_says_nothing_more() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        await asyncio.sleep(0.15)  # then the server would answer a CONNECT that comes again
        there.pipe.far.hold(lambda _: True)
        near.link.close()
        await far.until(lambda: far.down is not None)
        assert there.pipe.far._held == []


async def test_a_link_is_freed_although_its_carrier_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, _ = await there.connected()
        monkeypatch.setattr(near.link, "_send", None)
        with pytest.raises(TypeError):
            near.link.close()
        assert near.link.freed.is_set()


@pytest_asyncio.fixture
async def parting() -> AsyncIterator[tuple[DatagramPipe, Diary, Diary]]:
    pipe = DatagramPipe(1)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        yield pipe, near, far


async def test_a_farewell_arrives_and_the_peers_end_ends_the_link(
    parting: tuple[DatagramPipe, Diary, Diary],
) -> None:
    _, near, far = parting
    near.link.close(b"farewell")
    await far.until(lambda: far.packets == [b"farewell"])
    assert not near.link.freed.is_set()
    far.link.close()
    async with asyncio.timeout(0.5):
        await near.link.freed.wait()


async def test_a_lost_farewell_is_said_again_and_then_the_link_ends(
    parting: tuple[DatagramPipe, Diary, Diary],
) -> None:
    pipe, near, far = parting
    lossy = Lossy(2, lambda packet: b"farewell" in packet)
    pipe.near.hold(lossy)
    near.link.close(b"farewell")
    await far.until(lambda: far.down is not None, 1.5)
    assert far.packets == [b"farewell"] * 2
    assert lossy.seen == 4
    assert far.down == LinkEnd.PEER_ENDED
    assert near.link.freed.is_set()


async def test_a_peer_that_goes_on_sending_hears_the_farewell_sooner(
    parting: tuple[DatagramPipe, Diary, Diary], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "_FAREWELLS", (60.0,))
    monkeypatch.setattr(subject, "_LINGER", 60.0)
    pipe, near, far = parting
    lossy = Lossy(1, lambda packet: b"farewell" in packet)
    pipe.near.hold(lossy)
    near.link.close(b"farewell")
    for _ in range(200):
        far.send(b"more")
        await asyncio.sleep(0.001)
    await far.until(lambda: len(far.packets) > 0)
    assert set(far.packets) == {b"farewell"}
    assert lossy.seen < 50, "not for each packet"
    assert near.packets == [], "its owner is not told any more"
    far.link.close()
    await near.link.freed.wait()


# The sockets


async def test_a_third_process_cannot_inject_into_enets_socket() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        port = near.link._host.address.port
        shim = near.link._shim.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for target in (port, shim):
                stranger.sendto(dg.untimed(dg.packet(b"a lie")), ("127.0.0.1", target))
        near.link._service()
        near.send(b"still fine")
        await far.until(lambda: far.packets == [b"still fine"])
        assert near.packets == []
