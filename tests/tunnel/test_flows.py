"""Flows of datagrams through a real tunnel: real ENet, a real exit."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.datagrams import Owner, client, service
from tests.inbound.peers import forward, until
from tests.tunnel.ends import echo, tunnel
from tests.tunnel.ends import service as tcp_service
from toxproxy.address import UdpTarget
from toxproxy.errors import Refusal, ResetCode, StreamRefused, StreamReset
from toxproxy.inbound.udp import UdpForwardListener
from toxproxy.mux.limits import Limits
from toxproxy.mux.stream import StreamState
from toxproxy.tunnel.endpoint import DatagramEndpoint


async def test_datagrams_of_every_length_go_there_and_back() -> None:
    async with tunnel() as ends, service() as far:
        owner = Owner()
        flow = ends.near.open_flow(owner, far.target)
        for data in (b"first", b"", bytes(1252) + b"q", bytes(5000) + b"p", bytes(65_000) + b"l"):
            flow.send(data)
            assert await owner.receive() == data[::-1]
        assert owner.opened.is_set()
        assert (ends.near.multiplexer.flows, ends.far.multiplexer.flows) == (1, 1)
        assert flow.carried == (71_260, 71_260)
        assert ends.near.multiplexer.carried == ends.far.multiplexer.carried == flow.carried
        (there,) = ends.far.streams
        assert str(there.target) == f"{far.target.host}:{far.target.port}/udp"
        flow.close()
        await until(lambda: not ends.far.multiplexer.flows)
        assert not owner.ended.done()


async def test_a_refusal_is_the_end_of_the_flow_and_says_why() -> None:
    async with tunnel() as ends:
        owner = Owner()
        flow = ends.near.open_flow(owner, UdpTarget("224.0.0.1", 53))
        flow.send(b"question")
        refused = await owner.end()
        assert isinstance(refused, StreamRefused)
        assert (refused.code, refused.text[:13]) == (Refusal.NOT_PERMITTED, "not permitted")
        flow.send(b"late")
        flow.close()


async def test_a_server_opens_no_flows_at_its_client() -> None:
    async with tunnel() as ends:
        owner = Owner()
        ends.far.open_flow(owner, UdpTarget("127.0.0.1", 53))
        refused = await owner.end()
        assert isinstance(refused, StreamRefused)
        assert refused.code is Refusal.UNSUPPORTED


async def test_a_flow_survives_a_lost_link_and_its_port_at_the_exit_stays_the_same() -> None:
    async with tunnel() as ends, service() as far:
        owner = Owner()
        flow = ends.near.open_flow(owner, far.target)
        flow.send(b"before")
        await owner.receive()
        for cut in range(2):
            ends.near_end.lose()
            flow.send(b"late")
            await asyncio.sleep(0.5)
            ends.near_end.reach()
            await ends.resumed()
            flow.send(b"%d after" % cut)
            assert await owner.receive() == (b"%d after" % cut)[::-1]
        assert len({source for _, source in far.seen}) == 1
        assert flow.stream.state is StreamState.OPEN


async def test_the_end_of_the_session_ends_its_flows() -> None:
    async with tunnel() as ends, service() as far:
        owner = Owner()
        ends.near.open_flow(owner, far.target).send(b"x")
        await owner.receive()
        ends.near.close("done")
        ended = await owner.end()
        assert isinstance(ended, StreamReset)
        assert ended.code is ResetCode.GOING_AWAY
        await until(lambda: ends.far_end.session is None)


async def test_a_silent_flow_ends_in_order_at_both_ends_and_one_that_is_used_goes_on() -> None:
    limits = Limits(flow_idle=0.4)
    async with tunnel(limits=limits) as ends, service() as far:
        silent, used = Owner(), Owner()
        ends.near.open_flow(silent, far.target)
        flow = ends.near.open_flow(used, far.target)
        for _ in range(8):
            flow.send(b"x")
            await used.receive()
            await asyncio.sleep(0.1)
        assert await silent.end() is None
        assert not used.ended.done()
        assert ends.far.multiplexer.flows == 1
        assert await used.end() is None
        await until(lambda: not ends.far.multiplexer.flows)


async def test_flows_do_not_keep_a_program_from_stopping() -> None:
    async with tunnel() as ends, service() as far:
        owner = Owner()
        ends.near.open_flow(owner, far.target).send(b"x")
        await owner.receive()
        async with asyncio.timeout(1):
            await ends.near_end.idle()
            await ends.far_end.idle()
        assert ends.near_end.connections == ends.far_end.connections == 0
        assert len(ends.near_end.streams) == 1


async def test_one_flow_more_than_the_server_allows_is_refused_and_streams_go_on() -> None:
    async with tunnel(limits=Limits(flows=2)) as ends, service() as far, tcp_service(echo) as port:
        owners = [Owner() for _ in range(2)]
        for owner in owners:
            ends.near.open_flow(owner, far.target).send(b"ab")
            await owner.receive()
        with pytest.raises(StreamRefused, match="2 flows of datagrams"):
            ends.near.open_flow(Owner(), far.target)
        ends.near.multiplexer.limits = replace(Limits(), flows=10)
        third = Owner()
        ends.near.open_flow(third, far.target)
        refused = await third.end()
        assert isinstance(refused, StreamRefused)
        assert refused.code is Refusal.TOO_MANY_STREAMS
        reader, writer = await ends.open(port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()


async def test_a_forward_through_the_tunnel_and_floods_of_answers() -> None:
    """A target answers each byte with 64 KiB: memory stays bounded, and others are served."""
    big = bytes(65_000)
    async with (
        tunnel() as ends,
        service(lambda *_: big) as amplifier,
        service() as far,
        client() as greedy,
        client() as near,
        tcp_service(echo) as port,
    ):
        flood = UdpForwardListener(forward(amplifier.target), ends.near)
        listener = UdpForwardListener(forward(far.target), ends.near)
        for each in (flood, listener):
            await each.start()
        held = []
        reader, writer = await ends.open(port)
        for number in range(40):
            for _ in range(25):
                greedy.send(b"x", flood.addresses[0])
            near.send(b"%d" % number, listener.addresses[0])
            assert await near.receive() == (b"%d" % number)[::-1]
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            for side in (ends.near, ends.far):
                memory = side.multiplexer.memory
                held.append(memory.taken)
        assert max(held) < 6 << 20
        writer.close()
        for each in (flood, listener):
            await each.close()


async def test_an_endpoint_sends_and_receives_and_tells_of_the_end() -> None:
    async with tunnel() as ends, service() as far:
        async with DatagramEndpoint() as endpoint:
            await endpoint.open(ends.near, far.target)
            endpoint.send(b"ab")
            assert await endpoint.receive() == b"ba"
            with pytest.raises(ValueError, match="65535 bytes at most, found 65536"):
                endpoint.send(bytes(65_536))
            for _ in range(2000):
                endpoint.datagram_received(b"x" * 1000)
            assert endpoint.dropped == 2000 - 256
        with pytest.raises(StreamReset, match="the flow has ended"):
            await endpoint.receive()
        refused = DatagramEndpoint()
        with pytest.raises(StreamRefused, match="not permitted"):
            await refused.open(ends.near, UdpTarget("224.0.0.1", 1))
        other = DatagramEndpoint()
        await other.open(ends.near, far.target)
        waiting = asyncio.create_task(other.receive())
        await asyncio.sleep(0)
        ends.near.close("done")
        with pytest.raises(StreamReset, match="going away"):
            await waiting
        with pytest.raises(StreamReset, match="going away"):
            other.send(b"late")
