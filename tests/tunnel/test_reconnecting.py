"""Reconnecting: at once after a link that worked, with growing pauses after failures."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.descriptors import limited
from tests.simulation import DatagramPipe
from tests.tunnel.ends import echo, service, tunnel
from tests.tunnel.lines import hello, packed
from toxproxy.errors import CloseCode
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.pace import Pace
from toxproxy.recovery.packet import close
from toxproxy.tunnel import keeper
from toxproxy.tunnel.events import Change, PeerClosed, SessionEvent
from toxproxy.tunnel.friend import words
from toxproxy.tunnel.keeper import SessionKeeper

SECONDS = 3


class Rude:
    """A server that sends `answer` to the first packet of each link. Without one it closes later links."""

    links = 0
    answer: bytes | None = None

    def __init__(self, link: EnetLink) -> None:
        self.link = link
        self.first = not self.links
        self.answered = False

    def link_up(self) -> None:
        type(self).links += 1
        if not self.first and self.answer is None:
            asyncio.get_running_loop().call_soon(self.link.close)

    def packet_received(self, packet: bytes) -> None:
        if self.answered:
            return
        self.answered = True
        if self.answer is not None:
            self.link.send(self.answer)
            self.link.flush()
        elif self.first:
            self.link.send(packed(1, hello(9)))
            self.link.flush()
            asyncio.get_running_loop().call_later(0.2, self.link.close)

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd) -> None: ...


@pytest.mark.parametrize(
    "answer",
    [
        None,
        packed(1, hello(9, 7, 9)),  # other versions
        close(CloseCode.NO_SESSION, ""),
        b"\x40" + bytes(6),  # a flag that there is not
    ],
    ids=["hangs up", "version", "no session", "breaks the protocol"],
)
async def test_a_server_that_ends_each_link_or_session_is_asked_seldom(
    answer: bytes | None,
) -> None:
    class Server(Rude):
        links = 0

    Server.answer = answer
    pipe = DatagramPipe(1)
    near = SessionKeeper(pipe.near.send_from, changed=lambda _: None, grace=600)
    far = Carrier(pipe.far.send_from, Server)
    for end, carrier in ((pipe.far, far), (pipe.near, near.carrier)):
        end.receive, end.batch_ended = carrier.packet_received, carrier.batch_ended
    near.reach()
    await asyncio.sleep(SECONDS)
    assert 2 <= Server.links <= 5
    assert near._backoff._next > 1.0, "the pauses grow"
    await near.close("done")
    await far.close()
    pipe.close()


async def test_a_link_that_worked_for_a_while_is_replaced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "_STEADY", 0.0)
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        for number in range(1, 6):  # growing pauses would exceed the timeout
            assert ends.near_end.carrier.link is not None
            ends.near_end.carrier.link.fail(LinkEnd.PEER_ENDED)
            async with asyncio.timeout(2):
                while ends.changes.count(("near", SessionEvent(Change.RESUMED))) < number:
                    await asyncio.sleep(0.005)
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()
        await ends.quiet()


async def test_a_client_whose_server_was_restarted_has_another_session_at_once() -> None:
    """The server has ended the session that it does not know: nothing of this side is on its way."""
    async with tunnel() as ends:
        before = ends.near
        ends.far_end._expire()  # as far as the client knows
        ends.near_end.lose()
        ends.near_end.reach()
        async with asyncio.timeout(0.7):
            while not ends.near_end.ready or ends.near is before:
                await asyncio.sleep(0.005)
        assert [reason.code for side, reason in ends.ended if isinstance(reason, PeerClosed)] == [
            CloseCode.NO_SESSION
        ]


async def test_a_client_that_begins_sessions_in_a_loop_is_turned_away() -> None:
    async with tunnel() as ends:
        far = ends.far
        ends.far_end._begun = Pace(0)
        ends.near.close("again")
        async with asyncio.timeout(10):
            while len(ends.ended) < 3:  # those of the near end, of the far end, and of the next session
                await asyncio.sleep(0.01)
        side, reason = ends.ended[-1]
        assert side == "near"
        assert isinstance(reason, PeerClosed)
        assert "sessions were begun within a minute" in reason.text
        assert ends.far_end.session is None or ends.far_end.session is far


@pytest.mark.parametrize("side", ["near", "far"])
async def test_a_link_that_cannot_be_made_is_tried_again(side: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    async with tunnel() as ends, service(echo) as port:
        reader, writer = await ends.open(port)
        near = ends.near_end
        if side == "near":
            near.lose()
            with limited(0):
                near.reach()  # making a link fails
                assert not near.ready
                await asyncio.sleep(0.1)
        else:
            make = EnetLink.__init__
            failures = 0

            def fail(link: EnetLink, *rest: Any, connecting: bool) -> None:
                nonlocal failures
                if not connecting and failures < 2:
                    failures += 1
                    raise MemoryError("Unable to create host structure!")
                make(link, *rest, connecting=connecting)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(EnetLink, "__init__", fail)
                near.lose()
                near.reach()
                async with asyncio.timeout(10):
                    while not near.ready:
                        await asyncio.sleep(0.01)
            assert failures == 2
        writer.write(b"still there")
        async with asyncio.timeout(10):
            assert await reader.readexactly(11) == b"still there"
        assert any("no link can be made" in message for message in caplog.messages)
        assert not ends.ended
        writer.close()
        await ends.quiet()


def test_a_peers_last_words_are_quoted_and_cut() -> None:
    said: SessionEvent = SessionEvent(Change.ENDED, PeerClosed(CloseCode.STOPPING, "it's over " * 50))
    text = words(said)
    assert text.startswith("ended: the peer said \"it's over ")
    assert text.endswith('"… (stopping)')
    assert len(text) < 80 + 50
