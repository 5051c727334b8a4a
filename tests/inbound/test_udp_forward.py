"""UDP forwards between real sockets; the exit is on this side of the tunnel."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import time
from typing import Any

import pytest

from tests.datagrams import Client, client, service
from tests.inbound.peers import LOOPBACK, forward, until
from toxproxy.address import Bind, UdpTarget
from toxproxy.config.settings import ExitSettings, LimitSettings
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.inbound import flows
from toxproxy.inbound.udp import UdpForwardListener
from toxproxy.outbound.exit import Exit
from toxproxy.rules import Rules, parse_rule


class Way:
    """Opens flows from this machine, and counts them. `refuses` is raised, `ends` is told at once."""

    def __init__(self, permit: str = "*:*/udp") -> None:
        self.exit = Exit(ExitSettings(), Rules((parse_rule(permit),)))
        self.owners: list[FlowOwner] = []
        self.flows: list[Any] = []
        self.refuses: StreamRefused | None = None

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        if self.refuses is not None:
            raise self.refuses
        self.owners.append(owner)
        self.flows.append(self.exit.open_flow(owner, target))
        return self.flows[-1]


async def started(way: Way, target: UdpTarget, limits: LimitSettings | None = None) -> UdpForwardListener:
    listener = UdpForwardListener(forward(target), way, limits or LimitSettings())
    await listener.start()
    return listener


async def asked(near: Client, listener: UdpForwardListener, question: bytes) -> bytes:
    near.send(question, listener.addresses[0])
    return await near.receive()


async def test_each_client_has_a_flow_of_its_own_and_gets_its_answers() -> None:
    way = Way()
    async with service() as far, client() as one, client() as two:
        listener = await started(way, far.target)
        assert await asked(one, listener, b"one") == b"eno"
        assert await asked(two, listener, b"two") == b"owt"
        assert await asked(one, listener, b"more") == b"erom"
        assert one.source == ("127.0.0.1", int(listener.addresses[0].rpartition(":")[2]))
        assert (listener.connections, listener.accepted, len(way.flows)) == (2, 2, 2)
        assert len({source for _, source in far.seen}) == 2
        await listener.close()
        assert not listener.connections


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs all of 127.0.0.0/8")
async def test_an_answer_comes_from_the_address_that_was_asked() -> None:
    way = Way()
    async with service() as far, client() as near:
        listener = UdpForwardListener(forward(far.target, Bind("", 0)), way)
        await listener.start()
        port = int(listener.addresses[0].rpartition(":")[2])
        for host in ("127.0.0.1", "127.0.0.5", "127.9.9.9"):
            near.send(b"question", (host, port))
            assert await near.receive() == b"noitseuq"
            assert near.source == (host, port)
        assert listener.connections == 3, "a client that asks another address is another client"
        await listener.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="IPv6 is not here")
async def test_an_answer_comes_from_the_address_that_was_asked_with_ipv6() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as near:
        try:
            near.bind(("::1", 0))
        except OSError:
            pytest.skip("::1 is not here")
        near.setblocking(False)
        loop = asyncio.get_running_loop()
        async with service() as far:
            listener = UdpForwardListener(forward(far.target, Bind("", 0)), Way())
            await listener.start()
            port = int(listener.addresses[0].rpartition(":")[2])
            near.sendto(b"question", ("::1", port))
            async with asyncio.timeout(5):
                data, source = await loop.sock_recvfrom(near, 100)
            assert (data, source[:2]) == (b"noitseuq", ("::1", port))
            await listener.close()


async def test_every_address_of_the_machine_can_be_listened_on() -> None:
    async with service() as far, client() as near:
        listener = UdpForwardListener(forward(far.target, Bind("", 0)), Way())
        await listener.start()
        port = listener.addresses[0].rpartition(":")[2]
        near.send(b"ab", ("127.0.0.1", int(port)))
        assert await near.receive() == b"ba"
        await listener.close()


async def test_a_refused_flow_is_logged_and_asked_for_again_only_after_growing_pauses(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    way = Way("127.0.0.1:1/udp")
    now = 1000.0
    monkeypatch.setattr(flows, "monotonic", lambda: now)
    async with client() as near:
        listener = await started(way, UdpTarget("127.0.0.1", 2))
        counts = []
        for pause in (0.0, 0.5, 0.6, 1.0, 1.1, 40.0):
            now += pause
            for _ in range(20):
                near.send(b"question", listener.addresses[0])
            await asyncio.sleep(0.05)
            counts.append(len(way.flows))
        assert counts == [1, 1, 2, 2, 3, 4]
        assert listener.refused == 4
        assert listener.connections == 1
        text = "'not permitted (on the server: [access] permit, with /udp)'"
        assert caplog.messages[0] == f"web: 127.0.0.1:2/udp refused: {text}"
        await listener.close()


async def test_while_there_is_no_server_datagrams_are_dropped_and_the_next_one_after_it_goes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    way = Way()
    way.refuses = StreamRefused(Refusal.OFFLINE, "the server is not connected")
    async with service() as far, client() as near:
        listener = await started(way, far.target)
        near.send(b"lost", listener.addresses[0])
        assert await near.nothing()
        assert "the server is not connected" in caplog.text
        assert (listener.connections, listener.refused) == (0, 0)
        way.refuses = None
        assert await asked(near, listener, b"ab") == b"ba"
        await listener.close()


async def test_a_server_that_carries_no_udp_is_named_in_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    way = Way()
    way.refuses = StreamRefused(Refusal.UNSUPPORTED, "the server's version of toxproxy carries no UDP")
    async with client() as near:
        listener = await started(way, UdpTarget("127.0.0.1", 2))
        for _ in range(5):
            near.send(b"lost", listener.addresses[0])
        await until(lambda: listener.refused == 1)
        assert "the server's version of toxproxy carries no UDP" in caplog.text
        await listener.close()


async def test_a_flow_that_ended_is_opened_again_by_the_next_datagram() -> None:
    way = Way()
    async with service() as far, client() as near:
        listener = await started(way, far.target)
        await asked(near, listener, b"one")
        for error in (None, StreamReset(ResetCode.LINK_LOST)):
            way.flows[-1].close()
            way.owners[-1].flow_ended(error)
            assert listener.connections == 0
            now = asyncio.get_running_loop().time()
            assert await asked(near, listener, b"two") == b"owt"
            assert asyncio.get_running_loop().time() - now < 1
        await listener.close()


async def test_at_the_limit_flows_that_were_never_answered_give_way_first() -> None:
    way = Way()

    def answers(data: bytes, _: object) -> bytes | None:
        return data if data == b"used" else None

    async with service(answers) as far, client() as used:
        listener = await started(way, far.target, LimitSettings(flows=3))
        await asked(used, listener, b"used")
        for _ in range(10):
            async with client() as other:
                other.send(b"flood", listener.addresses[0])
                await asyncio.sleep(0.01)
        assert listener.connections == 3
        assert await asked(used, listener, b"used") == b"used"
        assert len([flow for flow in way.flows if flow._socket is not None and flow._socket._open]) == 3
        await listener.close()


async def test_a_flood_of_forged_addresses_opens_only_so_many_flows() -> None:
    way = Way()
    async with service(lambda *_: None) as far:
        listener = await started(way, far.target, LimitSettings(flows=500))
        (here,) = listener._sockets
        began = time.monotonic()
        for number in range(100_000):
            here._received(b"x", ("127.0.0.1", number % 60_000 + 1))
        assert len(way.flows) <= flows._AT_ONCE + flows._A_SECOND * (time.monotonic() - began) + 1
        assert listener.connections <= 500
        await listener.close()
        await asyncio.sleep(0)


async def test_a_limit_that_changes_counts_for_new_flows_and_a_released_socket_goes_on() -> None:
    way = Way()
    async with service() as far, client() as one, client() as two:
        listener = await started(way, far.target)
        listener.change(LimitSettings(flows=1), compress=True)
        await asked(one, listener, b"a")
        await asked(two, listener, b"b")
        assert listener.connections == 1
        sockets = await listener.release()
        again = UdpForwardListener(forward(far.target, LOOPBACK), way)
        await again.start(sockets)
        assert again.addresses == listener.addresses
        assert await asked(one, again, b"ab") == b"ba"
        await again.close()
