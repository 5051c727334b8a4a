"""UDP ASSOCIATE of SOCKS5 (RFC 1928, section 7): the header, and the association."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.datagrams import client, service
from tests.inbound.peers import LOOPBACK, proxy, until
from tests.inbound.test_udp_forward import Way
from tests.machine import Hosts
from toxproxy.address import UdpTarget
from toxproxy.config.settings import LimitSettings
from toxproxy.inbound.socks_header import decoded, encoded
from toxproxy.inbound.socks_udp import Client
from toxproxy.socks import ProxyListener

IPV4 = b"\0\0\0\x01\x7f\0\0\x01\x00\x35"
NAME = b"\0\0\0\x03\x0bexample.org\x00\x35"
IPV6 = b"\0\0\0\x04" + bytes(15) + b"\x01\x00\x35"


@pytest.mark.parametrize(
    ("header", "host"), [(IPV4, "127.0.0.1"), (NAME, "example.org"), (IPV6, "::1")], ids=["v4", "name", "v6"]
)
def test_each_kind_of_address_is_read_and_written(header: bytes, host: str) -> None:
    said = decoded(header + b"payload")
    assert said == (UdpTarget(host, 53), b"payload")
    assert encoded(said.target) == header
    assert decoded(header) == (UdpTarget(host, 53), b"")
    for end in range(len(header)):
        assert decoded(header[:end]) is None


@pytest.mark.parametrize(
    "datagram",
    [
        b"\0\1" + IPV4[2:],  # reserved
        b"\0\0\1" + IPV4[3:],  # a fragment
        b"\0\0\x80" + IPV4[3:],  # the last one
        b"\0\0\0\x02" + IPV4[4:],  # no such kind of address
        b"\0\0\0\x03\0\0\x35",  # a name without a byte
        b"\0\0\0\x03\x04\xff\xfe.x\0\x35",  # no UTF-8
        b"\0\0\0\x03\x03a b\0\x35",
        b"\0\0\0\x03\x091.2.3.4.5\0\x35",
        IPV4[:-2] + b"\0\0",  # port 0
    ],
)
def test_what_is_malformed_or_a_fragment_is_dropped(datagram: bytes) -> None:
    assert decoded(datagram + b"payload") is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_dropped(datagram: bytes) -> None:
    said = decoded(datagram)
    if said is not None:
        assert datagram.endswith(said.payload)
        again = decoded(encoded(said.target) + said.payload)
        assert again == said


@pytest.mark.parametrize(
    ("asked", "host", "port", "taken"),
    [
        (("0.0.0.0", 0), "127.0.0.1", 5, True),
        (("0.0.0.0", 5), "127.0.0.1", 5, True),
        (("0.0.0.0", 5), "127.0.0.1", 6, False),
        (("127.0.0.1", 5), "127.0.0.1", 6, False),
        (("192.168.1.5", 5), "127.0.0.1", 6, True),  # behind a NAT: its port is another one here
        (("192.168.1.5", 5), "192.168.1.5", 5, False),  # not where the TCP client is
        (("0.0.0.0", 0), "127.0.0.2", 5, False),
        (("::", 0), "::ffff:127.0.0.1", 5, True),
    ],
)
def test_whose_datagrams_are_taken(asked: tuple[str, int], host: str, port: int, taken: bool) -> None:
    assert Client.asked("127.0.0.1", *asked).is_at(host, port) is taken


@pytest.fixture
async def way() -> Way:
    return Way()


@pytest.fixture
async def port(way: Way) -> AsyncIterator[ProxyListener]:
    listener = ProxyListener(proxy(bind=LOOPBACK), way, LimitSettings(flows=4))
    await listener.start()
    yield listener
    await listener.close()
    await listener.drain()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def associate(
    listener: ProxyListener, source: tuple[bytes, int] = (bytes(4), 0)
) -> tuple[tuple[str, int], Streams]:
    """The address to send to, and the TCP connection."""
    host, _, number = listener.addresses[0].rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(number))
    writer.write(b"\x05\x01\x00\x05\x03\x00\x01" + source[0] + source[1].to_bytes(2))
    assert await reader.readexactly(2) == b"\x05\x00"
    answer = await reader.readexactly(10)
    assert answer[:4] == b"\x05\x00\x00\x01"
    return (".".join(map(str, answer[4:8])), int.from_bytes(answer[8:])), (reader, writer)


async def test_datagrams_go_to_each_target_and_come_back_with_its_address(
    port: ProxyListener, hosts: Hosts
) -> None:
    hosts["names.test"] = ["127.0.0.1"]
    async with service() as one, service(lambda data, _: data * 2) as two, client() as near:
        relay, (_, writer) = await associate(port)
        assert relay[0] == "127.0.0.1"
        near.send(encoded(one.target) + b"ab", relay)
        assert await near.receive() == encoded(one.target) + b"ba"
        assert near.source == relay
        near.send(encoded(two.target) + b"ab", relay)
        assert await near.receive() == encoded(two.target) + b"abab"
        named = UdpTarget("names.test", one.target.port)
        near.send(encoded(named) + b"xy", relay)
        assert await near.receive() == encoded(named) + b"yx"
        near.send(encoded(one.target) + bytes(40_000), relay)
        assert await near.receive() == encoded(one.target) + bytes(40_000)
        writer.close()


async def test_the_association_and_its_flows_end_with_the_tcp_connection(
    port: ProxyListener, way: Way
) -> None:
    async with service() as far, client() as near:
        relay, (_, writer) = await associate(port)
        near.send(encoded(far.target) + b"ab", relay)
        await near.receive()
        assert way.flows[0]._socket._open
        writer.close()
        await until(lambda: not port.connections)
        assert not way.flows[0]._socket._open
        near.send(encoded(far.target) + b"ab", relay)
        assert await near.nothing()
        assert not port._openings.count


async def test_only_the_first_sender_or_the_port_that_was_named_is_served(port: ProxyListener) -> None:
    async with service() as far, client() as first, client() as second, client("127.0.0.2") as stranger:
        relay, (_, writer) = await associate(port)
        stranger.send(encoded(far.target) + b"no", relay)
        first.send(b"malformed", relay)  # claims nothing
        second.send(encoded(far.target) + b"ab", relay)
        assert await second.receive() == encoded(far.target) + b"ba"
        first.send(encoded(far.target) + b"no", relay)
        assert await first.nothing()
        writer.close()
        named = first.address[1]
        relay, (_, writer) = await associate(port, (bytes(4), named))
        second.send(encoded(far.target) + b"no", relay)
        first.send(encoded(far.target) + b"xy", relay)
        assert await first.receive() == encoded(far.target) + b"yx"
        assert await second.nothing()
        assert [data for data, _ in far.seen] == [b"ab", b"xy"]
        writer.close()


async def test_a_fragment_is_dropped(port: ProxyListener) -> None:
    async with service() as far, client() as near:
        relay, (_, writer) = await associate(port)
        near.send(b"\0\0\x01" + encoded(far.target)[3:] + b"part", relay)
        assert await near.nothing()
        assert not far.seen
        writer.close()


async def test_a_target_that_is_refused_is_logged_and_the_others_go_on(
    port: ProxyListener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with service() as far, client() as near:
        relay, (_, writer) = await associate(port)
        near.send(encoded(UdpTarget("169.254.169.254", 80)) + b"no", relay)
        near.send(encoded(far.target) + b"ab", relay)
        assert await near.receive() == encoded(far.target) + b"ba"
        assert "169.254.169.254:80/udp refused: 'not permitted" in caplog.text
        writer.close()


async def test_all_associations_of_a_port_share_its_flows(port: ProxyListener, way: Way) -> None:
    async with service() as far, client() as near, client() as other:
        relay, (_, writer) = await associate(port)
        relay2, (_, writer2) = await associate(port)
        for number in range(6):
            near.send(encoded(UdpTarget("127.0.0.1", 1000 + number)) + b"x", relay)
        near.send(encoded(far.target) + b"ab", relay)
        await near.receive()
        assert port._openings.count == 4
        other.send(encoded(far.target) + b"ab", relay2)
        assert await other.nothing()
        writer.close()
        await until(lambda: port._openings.count == 0)
        other.send(encoded(far.target) + b"ab", relay2)
        assert await other.receive()
        writer2.close()


async def test_bytes_on_the_tcp_connection_are_ignored_and_a_login_is_asked_for(way: Way) -> None:
    listener = ProxyListener(proxy("alice", "secret"), way)
    await listener.start()
    host, _, number = listener.addresses[0].rpartition(":")
    async with service() as far, client() as near:
        reader, writer = await asyncio.open_connection(host, int(number))
        writer.write(b"\x05\x01\x02\x01\x05alice\x06secret\x05\x03\x00\x01" + bytes(6))
        answer = await reader.readexactly(2 + 2 + 10)
        relay = "127.0.0.1", int.from_bytes(answer[-2:])
        writer.write(b"what is this")
        near.send(encoded(far.target) + b"ab", relay)
        assert await near.receive() == encoded(far.target) + b"ba"
        writer.close()
    await listener.close()
    await listener.drain()
