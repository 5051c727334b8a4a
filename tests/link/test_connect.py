"""Reading ENet's CONNECT. A real ENet wrote the datagrams."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import enet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.link import connect


class Wire:
    """An ENet host that talks to a plain socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.host = enet.Host(enet.Address(b"127.0.0.1", 0), 1, 4, 0, 0)

    def connect(self, data: int = 0) -> tuple[bytes, enet.Peer]:
        """Let the host connect. Returns the CONNECT that it sent, and its peer."""
        peer = self.host.connect(enet.Address(b"127.0.0.1", self.socket.getsockname()[1]), 4, data)
        self.host.flush()
        return self.socket.recv(2048), peer


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    wire.socket.close()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_connect_is_recognised_with_its_connect_id(
    wire: Wire, kind: Callable[[bytes], bytes | bytearray]
) -> None:
    datagram, peer = wire.connect()
    assert len(datagram) == connect.LENGTH
    assert connect.is_connect(kind(datagram))
    assert connect.connect_id(kind(datagram)).to_bytes(4) == peer.connectID.to_bytes(4, sys.byteorder)


def test_two_connections_have_different_connect_ids(wire: Wire) -> None:
    first, peer = wire.connect()
    peer.reset()
    second, _ = wire.connect()
    assert connect.connect_id(first) != connect.connect_id(second)


def test_the_answer_to_a_connect_is_not_one(wire: Wire) -> None:
    server = enet.Host(enet.Address(b"127.0.0.1", 0), 1, 4, 0, 0)
    datagram, _ = wire.connect()
    wire.socket.sendto(datagram, ("127.0.0.1", server.address.port))
    server.service(0)
    assert not connect.is_connect(wire.socket.recv(2048))


@pytest.mark.parametrize(
    ("at", "bit"),
    [(0, 0x80), (0, 0x01), (1, 0x01), (4, 0x01), (4, 0x08)],
    ids=["no sent time", "a peer's id", "another peer's id", "VERIFY_CONNECT", "no command"],
)
def test_a_connect_with_one_wrong_bit_is_none(wire: Wire, at: int, bit: int) -> None:
    datagram = bytearray(wire.connect()[0])
    datagram[at] ^= bit
    assert not connect.is_connect(datagram)


def test_a_connect_that_is_too_short_or_too_long_is_none(wire: Wire) -> None:
    datagram, _ = wire.connect()
    assert not any(connect.is_connect(datagram[:length]) for length in range(connect.LENGTH))
    assert not connect.is_connect(datagram + b"\0")


def test_a_greater_mtu_is_lowered_and_nothing_else_changes(wire: Wire) -> None:
    before, peer = wire.connect(data=0xDEADBEEF)
    after = bytearray(before)
    connect.clamp_mtu(after, 1371)
    assert int.from_bytes(before[12:16]) == peer.mtu > 1371
    assert int.from_bytes(after[12:16]) == 1371
    assert after[:12] == before[:12]
    assert after[16:] == before[16:]


def test_a_smaller_mtu_stays(wire: Wire) -> None:
    before, peer = wire.connect()
    after = bytearray(before)
    connect.clamp_mtu(memoryview(after), peer.mtu)
    assert after == before


@given(st.binary(max_size=64))
def test_an_arbitrary_datagram_is_a_connect_or_none(datagram: bytes) -> None:
    assert not connect.is_connect(datagram) or len(datagram) == connect.LENGTH
