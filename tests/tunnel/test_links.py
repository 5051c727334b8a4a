"""A session and its links, call by call. The links only record what they are told."""

from __future__ import annotations

import asyncio

from tests.tunnel.lines import Side, hello, packed, talk
from toxproxy.address import Target
from toxproxy.errors import CloseCode, StreamRefused
from toxproxy.link.base import LinkEnd
from toxproxy.mux import frames
from toxproxy.recovery.packet import close, closing, introduction
from toxproxy.tunnel.events import Change, Closed, Loss, PeerBroke, PeerClosed, SessionEvent


def acquainted() -> tuple[Side, Side]:
    """A client and a server that are established."""
    client = Side()
    ids = introduction(client.line.sent[0])
    assert ids is not None
    server = Side(introduced=ids[0])
    talk(client, server)
    assert client.changes == server.changes == [SessionEvent(Change.BEGAN)]
    return client, server


async def test_the_first_packet_introduces_the_client_and_what_was_queued_is_flushed() -> None:
    client = Side()
    (first,) = client.line.sent
    ids = introduction(first)
    assert ids is not None
    assert ids[0]
    assert not ids[1]
    assert client.line.flushed == 1


async def test_a_client_whose_first_link_fails_before_the_servers_hello_has_no_session() -> None:
    client = Side()
    client.session.link_down(LinkEnd.UNANSWERED)
    assert client.ended == [LinkEnd.UNANSWERED]
    assert len(client.changes) == 1
    client.hear(packed(1, hello(22)))
    assert not client.session.multiplexer.established


async def test_the_first_packet_on_another_link_resumes_an_interrupted_session() -> None:
    client, server = acquainted()
    for side in (client, server):
        side.session.link_down(LinkEnd.SILENT)
        assert not side.session.recovery.met
        assert not side.session._timer.running
        side.new_line()
    assert introduction(client.line.sent[0]) == client.session._ids == server.session._ids
    assert not client.session.recovery.met
    talk(client, server)
    for side in (client, server):
        assert side.session.recovery.met
        assert side.changes == [
            SessionEvent(Change.BEGAN),
            SessionEvent(Change.INTERRUPTED, LinkEnd.SILENT),
            SessionEvent(Change.RESUMED),
        ]


async def test_a_link_that_fails_before_anything_came_leaves_the_session_interrupted() -> None:
    client, server = acquainted()
    for _ in range(3):
        client.session.link_down(LinkEnd.SILENT)
        client.new_line()
    assert SessionEvent(Change.RESUMED) not in client.changes
    server.session.link_down(LinkEnd.REPLACED)
    server.new_line()
    talk(client, server)
    assert client.changes.count(SessionEvent(Change.RESUMED)) == 1


async def test_what_an_interrupted_session_asks_is_answered_on_the_next_link() -> None:
    client, server = acquainted()
    for side in (client, server):
        side.session.link_down(LinkEnd.SILENT)
    dial = asyncio.create_task(client.session.dial(asyncio.Protocol, Target("host.example", 80)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not dial.done()
    client.new_line()
    server.new_line()
    async with asyncio.timeout(5):
        while not dial.done():
            talk(client, server)
            await asyncio.sleep(0)
    assert isinstance(dial.exception(), StreamRefused)


async def test_a_session_that_is_meant_by_an_introduction() -> None:
    _, server = acquainted()
    ours, theirs = server.session._ids
    assert server.session.is_meant(ours, theirs)
    assert server.session.is_meant(ours, 0), "the client was not told the server's id"
    assert not server.session.is_meant(ours, theirs ^ 1)
    assert not server.session.is_meant(ours ^ 1, theirs)
    assert not server.session.is_meant(ours ^ 1, 0)


async def test_what_the_carrier_refuses_goes_again() -> None:
    client, server = acquainted()
    client.line.sent.clear()
    client.line.refuses = 1
    dial = asyncio.create_task(client.session.dial(asyncio.Protocol, Target("host.example", 80)))
    async with asyncio.timeout(5):
        while len(client.line.sent) < 2:
            await asyncio.sleep(0.001)
        server.hear(client.line.sent[-1])
        while not dial.done():
            client.hear(*server.line.sent)
            await asyncio.sleep(0)
    assert isinstance(dial.exception(), StreamRefused)


# Ends


async def test_close_ends_the_session_at_the_peer_also_in_place_of_an_answer_on_another_link() -> None:
    for again in (False, True):
        client, _ = acquainted()
        if again:
            client.session.link_down(LinkEnd.SILENT)
            client.new_line()
        client.hear(close(CloseCode.NO_SESSION, "not known here"))
        assert client.ended == [PeerClosed(CloseCode.NO_SESSION, "not known here")]
        assert client.line.farewell == b""


async def test_a_session_that_is_closed_says_so_and_is_over() -> None:
    client, _ = acquainted()
    client.session.close("maintenance")
    assert closing(client.line.farewell or b"") == (CloseCode.STOPPING, "maintenance")
    client.hear(packed(100, frames.Reset(2, 1)))  # `Line` does not take a packet any more
    client.session.close("again")
    assert client.ended == [Closed("maintenance")]


async def test_a_session_without_a_link_can_be_closed() -> None:
    client, _ = acquainted()
    client.session.link_down(LinkEnd.SILENT)
    client.session.close("maintenance")
    assert client.ended == [Closed("maintenance")]


async def test_a_peer_that_breaks_the_protocol_is_told() -> None:
    for broken in (b"\x40" + bytes(6), b"x", packed(50) + b"\xff", packed(50, hello(1))):
        client, _ = acquainted()
        client.hear(broken)
        (reason,) = client.ended
        assert isinstance(reason, PeerBroke)
        assert closing(client.line.farewell or b"") == (CloseCode.PROTOCOL_ERROR, reason.text)


async def test_a_client_of_other_versions_is_told_so() -> None:
    server = Side(introduced=11)
    server.hear(packed(1, hello(11, 7, 9), ids=(11, 0)))
    code, text = closing(server.line.farewell or b"") or (None, "")
    assert code == CloseCode.VERSION
    assert "7 to 9" in text
    assert server.ended == [PeerBroke(text)]


async def test_a_hello_of_another_session_than_the_introductions_is_a_violation() -> None:
    server = Side(introduced=11)
    server.hear(packed(1, hello(12), ids=(11, 0)))
    (reason,) = server.ended
    assert isinstance(reason, PeerBroke)
    assert "INTRODUCTION" in reason.text


async def test_an_expired_session_is_over_and_hears_nothing_more() -> None:
    client, server = acquainted()
    client.session.expire(Loss.EXPIRED)
    client.hear(*server.line.sent)
    assert client.ended == [Loss.EXPIRED]
    assert client.line.farewell == b""
