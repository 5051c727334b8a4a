"""The link: real ENet over a datagram pipe, on good and bad paths."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import enet
import pytest

from tests.link.rig import Diary, Rig, commands, rig
from tests.simulation import DatagramPipe, Path
from toxproxy.link import overlay
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import MAX_PACKET
from toxproxy.link.congestion import MOST_WINDOW
from toxproxy.link.enet import CHANNELS, DEFAULT_WINDOW, EnetLink


def some_frames(seed: int, count: int, channels: int = 4, size: int = 9000) -> list[tuple[int, bytes]]:
    chance = random.Random(seed)
    return [
        (chance.randrange(channels), n.to_bytes(4) + chance.randbytes(chance.randrange(1, size)))
        for n in range(count)
    ]


def by_channel(frames: list[tuple[int, bytes]]) -> dict[int, list[bytes]]:
    sorted_out: dict[int, list[bytes]] = {}
    for channel, frame in frames:
        sorted_out.setdefault(channel, []).append(frame)
    return sorted_out


async def exchange(there: Rig, count: int) -> tuple[Diary, Diary]:
    """Send frames both ways at once. Check that both sides get all of them, each channel in order."""
    near, far = await there.connected()
    up, down = some_frames(1, count), some_frames(2, count)
    async with asyncio.TaskGroup() as group:
        group.create_task(near.push(up))
        group.create_task(far.push(down))
        group.create_task(far.until(lambda: len(far.frames) >= count))
        group.create_task(near.until(lambda: len(near.frames) >= count))
    assert by_channel(far.frames) == by_channel(up)
    assert by_channel(near.frames) == by_channel(down)
    return near, far


async def test_frames_cross_a_perfect_path_in_order() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await exchange(there, 400)
        assert near.ups == far.ups == 1
        assert near.link.stats.connections == 1
        assert near.link.stats.frames_sent == far.link.stats.frames_received == 400


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_frames_survive_drops_duplicates_and_reordering(seed: int) -> None:
    pipe = DatagramPipe(seed, Path(delay=0.005, loss=0.05), duplication=0.05, reordering=0.1)
    async with rig(pipe) as there:
        there.near.connect()
        await exchange(there, 150)


async def test_without_the_overlay_links_work_with_enets_own_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "attach", lambda peer: None)
    async with rig(DatagramPipe(4, Path(delay=0.005, loss=0.02))) as there:
        there.near.connect()
        near, _ = await exchange(there, 150)
        await asyncio.sleep(0.5)
        assert near.link.budget() <= DEFAULT_WINDOW


async def test_the_overlay_matches_the_installed_enet() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        for link in (near.link, far.link):
            assert link._fields is not None
            assert link._peer.windowSize == link._fields.struct.windowSize == 2 * MOST_WINDOW
            assert link._fields.struct.timeoutMinimum > 32_000


async def test_an_overlay_that_does_not_match_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overlay, "_DEFAULTS", {"pingInterval": 501})
    overlay._warn.cache_clear()
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, _ = await there.connected()
        assert near.link._fields is None
        assert "pingInterval" in caplog.text
    overlay._warn.cache_clear()


async def test_no_packet_is_larger_than_tox_carries() -> None:
    pipe = DatagramPipe(5)
    sizes: list[int] = []

    def note(packet: bytes) -> bool:
        sizes.append(len(packet))
        return False

    pipe.near.hold(note)
    pipe.far.hold(note)
    async with rig(pipe) as there:
        there.near.connect()
        await exchange(there, 60)
    assert MAX_PACKET - 3 <= max(sizes) <= MAX_PACKET


async def test_the_throttle_stays_open_on_a_path_whose_delay_jumps() -> None:
    """ENet's own throttle would close here and let one packet at a time through."""
    pipe = DatagramPipe(6, Path(delay=0.01), reordering=0.3)
    async with rig(pipe) as there:
        there.near.connect()
        near, _ = await exchange(there, 150)
        assert near.link._peer.packetThrottle == 32


async def test_a_held_channel_does_not_delay_the_others() -> None:
    """No head-of-line blocking: 25 ms and 1 % loss, all of channel 1 held for a second."""
    pipe = DatagramPipe(7, Path(delay=0.025, loss=0.01, rate=12_500_000), queue=600_000)
    async with rig(pipe) as there:
        there.near.connect()
        near, far = await there.connected()
        pipe.near.hold(lambda packet: any(c in (6, 8) and ch == 1 for c, ch in commands(packet)), 1.0)
        began = time.monotonic()
        frame = bytes(1200)
        for _ in range(40):
            near.link.send(1, frame)
            near.link.send(2, frame)
        near.link.flush()
        await far.until(lambda: sum(channel == 2 for channel, _ in far.frames) == 40)
        assert time.monotonic() - began < 1.0, "the hold was over, so this run shows nothing"
        assert not any(channel == 1 for channel, _ in far.frames)
        await far.until(lambda: sum(channel == 1 for channel, _ in far.frames) == 40)
        assert by_channel(far.frames)[1] == [frame] * 40


async def test_closing_tells_the_peer() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        _, far = await there.connected()
        await there.near.close()
        await far.until(lambda: far.down is not None)
        assert far.down == LinkEnd.PEER_ENDED


async def test_a_frame_sent_just_before_closing_arrives() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        near.link.send(0, b"last words")
        near.link.flush()
        await there.near.close()
        await far.until(lambda: far.down is not None)
        assert far.frames == [(0, b"last words")]


async def test_the_budget_is_used_up_by_the_window_and_restored_by_acknowledgements() -> None:
    async with rig(DatagramPipe(1, Path(delay=0.2))) as there:
        there.near.connect()
        near, far = await there.connected()
        frame, sent = bytes(8000), 0
        while sent < near.link._control.window:
            await near.until(lambda: near.link.budget() > 0)
            near.link.send(1, frame)
            near.link.flush()
            sent += len(frame)
        assert near.link.budget() <= 0
        assert not near.link._peer.packetsLost
        await near.until(lambda: near.link.budget() > 0)
        await far.until(lambda: len(far.frames) == sent // len(frame))


async def test_an_idle_link_hardly_wakes(monkeypatch: pytest.MonkeyPatch) -> None:
    """ENet pings every two seconds. Nothing else may wake the link."""
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, _ = await there.connected()
        await asyncio.sleep(0.6)  # until the handshake has been acknowledged
        services = 0
        original = EnetLink._service

        def counted(self: EnetLink) -> None:
            nonlocal services
            services += 1
            original(self)

        monkeypatch.setattr(EnetLink, "_service", counted)
        await asyncio.sleep(2.5)
        assert near.down is None
        assert services <= 16


async def test_a_third_process_cannot_inject_into_enets_socket() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        port = near.link._host.address.port
        shim = near.link._shim.getsockname()[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for target in (port, shim):
                stranger.sendto(bytes(100), ("127.0.0.1", target))
        sent = near.link.stats.datagrams_sent
        near.link._service()
        assert near.link.stats.datagrams_sent == sent, "the injected datagram was sent to the peer"
        near.link.send(3, b"still fine")
        near.link.flush()
        await far.until(lambda: far.frames == [(3, b"still fine")])


async def test_all_channels_work() -> None:
    async with rig(DatagramPipe(1)) as there:
        there.near.connect()
        near, far = await there.connected()
        frames = [(channel, bytes([channel])) for channel in range(CHANNELS)]
        await near.push(frames)
        await far.until(lambda: len(far.frames) == CHANNELS)
        assert sorted(far.frames) == frames


def test_forget_doubling_gives_retransmitted_commands_the_timeout_of_new_ones() -> None:
    here, there = (enet.Host(enet.Address(b"127.0.0.1", 0), 1, 1, 0, 0) for _ in range(2))
    fields = overlay.attach(here.peers[0])
    assert fields is not None
    peer = here.connect(enet.Address(b"127.0.0.1", there.address.port), 1, 0)
    while peer.state != enet.PEER_STATE_CONNECTED:
        here.service(1, True)
        there.service(1, True)
    for _ in range(3):
        peer.send(0, enet.Packet(b"lost", enet.PACKET_FLAG_RELIABLE))
    while peer.packetsLost < 3:  # the other host has stopped reading
        here.service(1, True)
    end = fields.list("sentReliableCommands")
    timeouts = [command.roundTripTimeout for command in sent(end)]
    once = peer.roundTripTime + 4 * peer.roundTripTimeVariance
    assert timeouts == [2 * once] * 3
    fields.forget_doubling()
    assert [command.roundTripTimeout for command in sent(end)] == [once] * 3


def sent(end: Any) -> Iterator[Any]:
    """The commands in one of ENet's lists of sent commands."""
    node = end.next
    while node != end:
        yield overlay.command(node)
        node = node.next
