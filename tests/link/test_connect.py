"""Reading ENet's CONNECT. A real ENet wrote the datagrams."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import enet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.link.filter import MTU, connect_id, lower_mtu


class Wire:
    """An ENet host that talks to a plain socket."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.host = enet.Host(enet.Address(b"127.0.0.1", 0), 1, 1, 0, 0)

    def connect(self, *, lower: bool = True) -> tuple[bytes, enet.Peer]:
        """Let the host connect. Returns the CONNECT that it sent, with a link's mtu, and its peer."""
        peer = self.host.connect(enet.Address(b"127.0.0.1", self.socket.getsockname()[1]), 1, 0)
        self.host.flush()
        datagram = bytearray(self.socket.recv(2048))
        if lower:
            lower_mtu(memoryview(datagram))
        return bytes(datagram), peer


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
    assert connect_id(kind(datagram)) == peer.connectID.to_bytes(4, sys.byteorder)


def test_two_connections_have_different_connect_ids(wire: Wire) -> None:
    first, peer = wire.connect()
    peer.reset()
    second, _ = wire.connect()
    assert connect_id(first) != connect_id(second)


def test_the_answer_to_a_connect_is_not_one(wire: Wire) -> None:
    server = enet.Host(enet.Address(b"127.0.0.1", 0), 1, 1, 0, 0)
    datagram, _ = wire.connect()
    wire.socket.sendto(datagram, ("127.0.0.1", server.address.port))
    server.service(0)
    assert connect_id(wire.socket.recv(2048)) is None


@pytest.mark.parametrize(
    ("at", "bit"),
    [(0, 0x80), (0, 0x01), (1, 0x01), (4, 0x01), (4, 0x08), (15, 0x01)],
    ids=["no sent time", "a peer's id", "another peer's id", "VERIFY_CONNECT", "no command", "another mtu"],
)
def test_a_connect_with_one_wrong_bit_is_none(wire: Wire, at: int, bit: int) -> None:
    datagram = bytearray(wire.connect()[0])
    datagram[at] ^= bit
    assert connect_id(datagram) is None


def test_a_connect_that_is_too_short_or_too_long_is_none(wire: Wire) -> None:
    datagram, _ = wire.connect()
    assert not any(connect_id(datagram[:length]) for length in range(len(datagram)))
    assert connect_id(datagram + b"\0") is None


def test_the_mtu_is_lowered_and_nothing_else_changes(wire: Wire) -> None:
    before, peer = wire.connect(lower=False)
    assert connect_id(before) is None
    after = bytearray(before)
    lower_mtu(memoryview(after))
    assert int.from_bytes(before[12:16]) == peer.mtu > MTU
    assert int.from_bytes(after[12:16]) == MTU
    assert after[:12] == before[:12]
    assert after[16:] == before[16:]
    other = bytearray(52)
    lower_mtu(memoryview(other))
    assert not any(other), "only a CONNECT is changed"


@given(st.binary(max_size=64))
def test_an_arbitrary_datagram_is_a_connect_or_none(datagram: bytes) -> None:
    assert connect_id(datagram) is None or len(datagram) == 52
