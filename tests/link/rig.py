"""Two carriers joined by a `DatagramPipe`: real ENet over a path that the test chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.simulation import DatagramPipe
from toxproxy.link.base import LinkEnd, LinkOwner
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink


@dataclass
class Diary:
    """A link's owner that records what it hears."""

    link: EnetLink
    packets: list[bytes] = field(default_factory=list)
    ups: int = 0
    readies: int = 0
    down: LinkEnd | None = None
    written: asyncio.Event = field(default_factory=asyncio.Event)

    def link_up(self) -> None:
        self.ups += 1
        self.written.set()

    def packet_received(self, packet: bytes) -> None:
        self.packets.append(packet)
        self.written.set()

    def link_ready(self) -> None:
        self.readies += 1
        self.written.set()

    def link_down(self, reason: LinkEnd) -> None:
        self.down = reason
        self.written.set()

    async def until(self, happened: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not happened():
                self.written.clear()
                await self.written.wait()

    def send(self, *packets: bytes) -> int:
        """Send packets at once. Returns how many the carrier refused."""
        for packet in packets:
            self.link.send(packet)
        return self.link.flush()


@dataclass
class Rig:
    pipe: DatagramPipe
    near: Carrier
    far: Carrier
    near_links: list[Diary]
    far_links: list[Diary]
    said: list[str] = field(default_factory=list)  # of dropped and withheld datagrams

    async def connected(self) -> tuple[Diary, Diary]:
        """Wait until both ends of the latest link are up. Returns their owners."""
        near = self.near_links[-1]
        await near.until(lambda: near.ups > 0)
        async with asyncio.timeout(10):
            while not (self.far_links and self.far_links[-1].ups):
                await asyncio.sleep(0.01)
        return self.near_links[-1], self.far_links[-1]


def wire(
    pipe: DatagramPipe, own_near: Callable[[EnetLink], LinkOwner], own_far: Callable[[EnetLink], LinkOwner]
) -> tuple[Carrier, Carrier]:
    """Put a carrier on each end of a pipe."""
    near = Carrier(pipe.near.send_from, own_near, connecting=True)
    far = Carrier(pipe.far.send_from, own_far)
    for end, carrier in ((pipe.near, near), (pipe.far, far)):
        end.receive, end.batch_ended = carrier.packet_received, carrier.batch_ended
    return near, far


@asynccontextmanager
async def rig(pipe: DatagramPipe, *, honest: bool = True) -> AsyncIterator[Rig]:
    """Two carriers on a pipe. If they are `honest`, no filter may have rejected a datagram at the end."""
    near_links: list[Diary] = []
    far_links: list[Diary] = []

    def keep(links: list[Diary]) -> Callable[[EnetLink], LinkOwner]:
        def own(link: EnetLink) -> LinkOwner:
            links.append(Diary(link))
            return links[-1]

        return own

    near, far = wire(pipe, keep(near_links), keep(far_links))
    there = Rig(pipe, near, far, near_links, far_links)
    for carrier in (near, far):
        carrier._notice = lambda text, *_: there.said.append(text)  # type: ignore[assignment]
    try:
        yield there
    finally:
        async with asyncio.TaskGroup() as group:
            group.create_task(near.close())
            group.create_task(far.close())
        pipe.close()
    assert not any(text.startswith("withheld") for text in there.said)
    assert not (honest and any(text.startswith("dropped a datagram") for text in there.said))
