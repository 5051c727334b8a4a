"""The simulated links behave as the tests over them assume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation import DatagramPipe, Path, Simulation
from toxproxy.link.base import Link, LinkEnd


class Listener:
    """A link's owner that records every call and its time."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.frames: list[tuple[float, int, bytes]] = []
        self.ups: list[float] = []
        self.readies = 0
        self.downs: list[LinkEnd] = []

    def link_up(self) -> None:
        self.ups.append(self.simulation.now)

    def frame_received(self, channel: int, frame: bytes) -> None:
        self.frames.append((self.simulation.now, channel, frame))

    def link_ready(self) -> None:
        self.readies += 1

    def link_down(self, reason: LinkEnd) -> None:
        self.downs.append(reason)


def listening(simulation: Simulation) -> tuple[Listener, Listener]:
    near, far = Listener(simulation), Listener(simulation)
    simulation.connect(near, far)
    simulation.rest()
    return near, far


class TestSimulation:
    def test_its_ends_are_links(self) -> None:
        ends: list[Link] = [Simulation(0).near, Simulation(0).far]
        assert all(end.budget() == 0 for end in ends), "there is a budget before the link is up"

    def test_a_link_is_up_after_a_round_trip(self) -> None:
        simulation = Simulation(0, Path(delay=0.1))
        near, far = listening(simulation)
        assert near.ups == far.ups == [0.2]
        assert simulation.near.round_trip == 0.2

    def test_a_frame_takes_the_delay_and_its_transmission_time(self) -> None:
        simulation = Simulation(0, Path(delay=0.5, rate=100))
        _, far = listening(simulation)
        start = simulation.now
        simulation.near.send(1, bytes(100))
        simulation.near.send(2, bytes(50))
        simulation.rest()
        assert [(when - start, channel) for when, channel, _ in far.frames] == [(1.5, 1), (2.0, 2)]

    def test_the_clock_advances_no_further_than_told(self) -> None:
        simulation = Simulation(0, Path(delay=0.5))
        _, far = listening(simulation)
        simulation.near.send(1, b"x")
        simulation.advance(simulation.now + 0.4)
        assert not far.frames
        simulation.advance(simulation.now + 0.2)
        assert far.frames

    def test_a_lossy_path_loses_nothing_and_keeps_each_channels_order(self) -> None:
        simulation = Simulation(7, Path(delay=0.01, loss=0.3))
        _, far = listening(simulation)
        for number in range(600):
            simulation.near.send(number % 3, number.to_bytes(2))
            simulation.advance(simulation.now + 0.001)
        simulation.rest()
        arrived = [int.from_bytes(frame) for _, _, frame in far.frames]
        assert sorted(arrived) == list(range(600))
        assert arrived != sorted(arrived), "no channel overtook another"
        for channel in range(3):
            mine = [number for number in arrived if number % 3 == channel]
            assert mine == sorted(mine)

    def test_the_same_seed_is_the_same_run(self) -> None:
        def run(seed: int) -> list[tuple[float, int, bytes]]:
            simulation = Simulation(seed, Path(delay=0.01, loss=0.2))
            _, far = listening(simulation)
            for number in range(100):
                simulation.near.send(number % 5, bytes((number,)))
            simulation.rest()
            return far.frames

        assert run(1) == run(1)
        assert run(1) != run(2)

    def test_each_retransmission_waits_twice_as_long(self) -> None:
        simulation = Simulation(0, Path(loss=0.9), timeout=1.0)
        _, far = listening(simulation)
        for channel in range(1, 200):
            simulation.near.send(channel, b"")
        simulation.rest()
        assert {when for when, _, _ in far.frames} <= {float(2**tries - 1) for tries in range(100)}
        assert len({when for when, _, _ in far.frames}) > 5

    def test_bytes_in_flight_use_the_budget_until_they_are_acknowledged(self) -> None:
        simulation = Simulation(0, Path(delay=0.5), window=100)
        near, _ = listening(simulation)
        simulation.near.send(1, bytes(150))
        assert simulation.near.budget() == 0
        simulation.advance(simulation.now + 0.9)
        assert simulation.near.budget() == 0
        assert near.readies == 0
        simulation.advance(simulation.now + 0.2)
        assert simulation.near.budget() == 100
        assert near.readies == 1

    def test_a_held_channel_waits_and_the_others_do_not(self) -> None:
        simulation = Simulation(0)
        _, far = listening(simulation)
        simulation.near.hold(1, 5.0)
        for channel in (1, 2, 1):
            simulation.near.send(channel, bytes((channel,)))
        simulation.rest()
        assert [(when, channel) for when, channel, _ in far.frames] == [(0.0, 2), (5.0, 1), (5.0, 1)]

    def test_a_closed_end_gets_nothing_more_and_its_peer_gets_link_down(self) -> None:
        simulation = Simulation(0, Path(delay=0.1))
        near, far = listening(simulation)
        simulation.near.send(1, b"last words")
        simulation.far.send(1, b"too late")
        simulation.near.close()
        simulation.near.close()
        simulation.rest()
        assert [frame for _, _, frame in far.frames] == [b"last words"]
        assert far.downs == [LinkEnd.PEER_ENDED]
        assert not near.frames
        assert not near.downs


class Ear:
    """The owner of one end. Records the datagrams in batches."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self._open: list[bytes] = []
        self._changed = asyncio.Event()

    @property
    def heard(self) -> list[bytes]:
        return [datagram for batch in self.batches for datagram in batch]

    def receive(self, datagram: bytes) -> None:
        self._open.append(datagram)

    def batch_ended(self) -> None:
        self.batches.append(self._open)
        self._open = []
        self._changed.set()

    async def hears(self, datagram: bytes) -> None:
        """Wait until this datagram has come."""
        async with asyncio.timeout(5):
            while datagram not in self.heard:
                self._changed.clear()
                await self._changed.wait()


class TestDatagramPipe:
    @pytest.fixture
    def pipes(self) -> Iterator[list[DatagramPipe]]:
        opened: list[DatagramPipe] = []
        yield opened
        for pipe in opened:
            pipe.close()

    def opened(self, pipes: list[DatagramPipe], pipe: DatagramPipe) -> tuple[DatagramPipe, Ear, Ear]:
        pipes.append(pipe)
        ears = Ear(), Ear()
        for end, ear in zip((pipe.near, pipe.far), ears, strict=True):
            end.receive, end.batch_ended = ear.receive, ear.batch_ended
        return pipe, *ears

    async def test_what_is_sent_at_once_arrives_as_one_batch(self, pipes: list[DatagramPipe]) -> None:
        pipe, near, far = self.opened(pipes, DatagramPipe(0))
        buffer = bytearray(b"1")
        assert pipe.near.send(buffer)
        buffer[:] = b"2"
        assert pipe.near.send(memoryview(buffer))
        assert not far.heard, "the receiver was called from within send"
        await far.hears(b"2")
        assert far.batches == [[b"1", b"2"]]
        pipe.far.send(b"back")
        await near.hears(b"back")

    async def test_a_delay_keeps_the_order(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0, Path(delay=0.01)))
        for number in range(50):
            pipe.near.send(bytes((number,)))
            await asyncio.sleep(0)
        await far.hears(bytes((49,)))
        assert far.heard == [bytes((number,)) for number in range(50)]

    @pytest.mark.parametrize("way", ["loss", "duplication", "reordering"])
    async def test_loss_duplication_and_reordering(self, pipes: list[DatagramPipe], way: str) -> None:
        pipes_of = {
            "loss": lambda: DatagramPipe(3, Path(loss=0.3)),
            "duplication": lambda: DatagramPipe(3, duplication=0.3),
            "reordering": lambda: DatagramPipe(3, Path(delay=0.005), reordering=0.3),
        }
        pipe, _, far = self.opened(pipes, pipes_of[way]())
        sent = [bytes((number,)) for number in range(200)]
        for datagram in sent:
            pipe.near.send(datagram)
        await asyncio.sleep(0.05)
        if way == "loss":
            assert 100 < len(far.heard) < 180
            assert far.heard == sorted(far.heard)
        elif way == "duplication":
            assert 220 < len(far.heard) < 300
            assert set(far.heard) == set(sent)
        else:
            assert sorted(far.heard) == sent
            assert far.heard != sent

    async def test_a_datagram_that_finds_the_queue_full_is_lost(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0, Path(rate=2e4), queue=500))
        sent = [bytes((number,)) * 100 for number in range(40)]
        assert all(pipe.near.send(datagram) for datagram in sent), "the sender noticed a loss"
        await far.hears(sent[4])
        pipe.near.send(b"later")
        await far.hears(b"later")
        assert far.heard[:5] == sent[:5]
        assert len(far.heard) < len(sent)

    async def test_held_datagrams_wait_for_their_release(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0))
        pipe.near.hold(lambda datagram: datagram.startswith(b"held"))
        for datagram in (b"held 1", b"free", b"held 2"):
            pipe.near.send(datagram)
        await far.hears(b"free")
        assert far.heard == [b"free"]
        pipe.near.release()
        await far.hears(b"held 2")
        assert far.heard == [b"free", b"held 1", b"held 2"]

    async def test_a_hold_ends_by_itself(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0))
        pipe.near.hold(lambda datagram: datagram == b"held", seconds=0.02)
        pipe.near.send(b"held")
        pipe.near.send(b"free")
        await far.hears(b"held")
        assert far.heard == [b"free", b"held"]

    async def test_a_closed_pipe(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0))
        pipe.near.send(b"on its way")
        pipe.close()
        assert not pipe.near.send(b"x")
        assert not pipe.far.send(b"x")
        await asyncio.sleep(0.01)
        assert not far.heard

    async def test_a_pipe_closed_in_the_middle_of_a_batch(self, pipes: list[DatagramPipe]) -> None:
        pipe, _, far = self.opened(pipes, DatagramPipe(0))

        def receive(datagram: bytes) -> None:
            far.receive(datagram)
            pipe.close()

        pipe.far.receive = receive
        pipe.near.send(b"1")
        pipe.near.send(b"2")
        await asyncio.sleep(0.01)
        assert far._open == [b"1"]
        assert not far.batches
