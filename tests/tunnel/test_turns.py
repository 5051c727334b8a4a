"""A session beside others of its process sends a little at a time."""

from __future__ import annotations

import asyncio

from tests.tunnel.ends import service, tunnel
from toxproxy.mux.limits import TURN, Limits, Turns

_SIZE = 4_000_000


class Noted(Turns):
    """Notes how much leaves at once. With `others`, as many sessions always have much to send."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self.others = others
        self.most_at_once = 0

    def most(self, session: object, now: float) -> int:
        for each in range(self.others):
            self.sent(each, TURN)
        return super().most(session, now)

    def sent(self, session: object, packets: int) -> None:
        super().sent(session, packets)
        if not isinstance(session, int):
            self.most_at_once = max(self.most_at_once, packets)


async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(_SIZE))
    await writer.drain()
    writer.close()


async def most_at_once(others: int) -> int:
    """Packets that left at once, at most, in a download that arrived whole."""
    turns = Noted(others)
    async with tunnel(limits=Limits(turns=turns)) as ends, service(send) as port:
        reader, writer = await ends.open(port, compress=False)
        assert len(await reader.read(-1)) == _SIZE
        writer.close()
        await ends.quiet()
    return turns.most_at_once


async def test_alone_it_sends_as_much_as_its_pace_allows() -> None:
    assert await most_at_once(0) > 8


async def test_beside_many_it_sends_as_much_as_each_of_them() -> None:
    assert await most_at_once(99) == 8
