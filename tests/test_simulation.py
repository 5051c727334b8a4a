"""The simulated path behaves as the tests over it assume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation import DatagramPipe, Path


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
