"""Log lines that a friend causes are rare, short, and quote its text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation import DatagramPipe
from tests.tunnel.lines import hello, packed
from toxproxy.config.settings import GRACE, ExitSettings
from toxproxy.errors import CloseCode
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.recovery.packet import close
from toxproxy.rules import Rules
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tunnel.friend import Friend, log

SESSIONS = 15
WORDS = "x" * 200 + "the end"


class Wire:
    """Stands for the node of a `Friend`: a path for its packets."""

    def __init__(self, send: Callable[[Any, int], bool]) -> None:
        self._send = send

    def friend_name(self, number: int) -> str:
        return ""

    def set_sink(self, number: int, sink: Carrier | None) -> None:
        self.sink = sink

    def lossy_sender(self, number: int) -> Callable[[Any, int], bool]:
        return self._send


class Restless:
    """A client that begins a session on each of its links, and closes it when the server answers."""

    def __init__(self, link: EnetLink) -> None:
        self._link = link

    def link_up(self) -> None:
        self._link.send(packed(1, hello(7), ids=(7, 0)))
        self._link.flush()

    def packet_received(self, packet: bytes) -> None:
        self._link.send(close(CloseCode.STOPPING, WORDS))
        self._link.flush()

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd) -> None: ...


async def test_sessions_that_come_and_go_write_few_short_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    pipe = DatagramPipe(1)
    ends: list[bool] = []
    wire = Wire(pipe.far.send_from)
    friend = Friend(
        wire,  # type: ignore[arg-type]
        0,
        bytes(32),
        changed=lambda friend: ends.append(bool(friend.streams)),
        grace=GRACE,
        host=Serving(Exit(ExitSettings(), Rules())),
        name_of=lambda key: "laptop",
    )
    friend.connection_changed(ConnectionStatus.UDP)
    client = Carrier(pipe.near.send_from, Restless, connecting=True)
    for end, carrier in ((pipe.near, client), (pipe.far, wire.sink)):
        assert carrier is not None
        end.receive, end.batch_ended = carrier.packet_received, carrier.batch_ended
    async with asyncio.timeout(30):
        for number in range(1, SESSIONS + 1):
            client.connect()
            while len(ends) < 1 + 2 * number:  # one event for its begin, one for its end
                await asyncio.sleep(0.002)
    lines = [record.getMessage() for record in caplog.records if record.name == log.name]
    assert 1 < len(lines) <= 10
    beginning = "session with laptop (000000000000) ended: the peer said 'xxx"
    assert all(line.startswith(beginning) and "the end" not in line for line in lines)
    assert all(len(line) < 200 for line in lines)
    await friend.close("done")
    await client.close()
    pipe.close()
