"""What a socket sends comes back, and can be sent once more."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine import has_ipv6
from toxproxy.system.echo import Datagram, Echo, find_datagram

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux hands back what was sent"
)
WORDS = b"as it left"


@pytest.fixture
def here() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


@pytest.fixture
def both() -> Iterator[socket.socket]:
    """A socket for both families, as libtoxcore's."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        yield sock


ADDRESSES = tuple(ip_address(f"{net}{n}").packed for net in ("192.0.2.", "2001:db8::") for n in (1, 2))
PORTS = b"\0\1\0\2" + bytes(4)  # and length, checksum


def ipv4(length: int, payload: bytes) -> bytes:
    head = bytes([0x45, 0]) + length.to_bytes(2) + bytes(5) + bytes([17]) + bytes(2)
    return (
        head
        + ip_address("192.0.2.1").packed
        + ip_address("192.0.2.2").packed
        + b"\0\1\0\2"
        + bytes(4)
        + payload
    )


def ipv6(payload: bytes) -> bytes:
    head = bytes([0x60, 0, 0, 0]) + (8 + len(payload)).to_bytes(2) + bytes([17, 64])
    return (
        head
        + ip_address("2001:db8::1").packed
        + ip_address("2001:db8::2").packed
        + b"\0\1\0\2"
        + bytes(4)
        + payload
    )


def test_what_is_sent_comes_back_and_goes_out_again_from_the_same_port(here: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        echo = Echo(sock.fileno())
        (sent,) = echo.sent_by(lambda: sock.sendto(WORDS, here.getsockname()))
        assert sent == Datagram(ip_address("127.0.0.1"), here.getsockname()[1], WORDS)
        echo.send(sent)
        assert here.recvfrom(99) == here.recvfrom(99)
        echo.close()


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize("host", ["::1", "::ffff:127.0.0.1"])
def test_a_socket_for_both_families(both: socket.socket, host: str) -> None:
    with socket.socket(socket.AF_INET6 if host == "::1" else socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((host.removeprefix("::ffff:"), 0))
        other.settimeout(10)
        echo = Echo(both.fileno())
        (sent,) = echo.sent_by(lambda: both.sendto(WORDS, (host, other.getsockname()[1])))
        echo.send(sent)
        assert other.recvfrom(99) == other.recvfrom(99)
        echo.close()


def test_nothing_is_handed_back_at_other_times_and_the_socket_does_not_look_readable(
    here: socket.socket,
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        echo = Echo(sock.fileno())
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        echo.sent_by(lambda: sock.sendto(WORDS, here.getsockname()))
        sock.sendto(WORDS, here.getsockname())
        assert poll.poll(0) == []
        assert echo.sent_by(lambda: None) == []
        echo.close()


@given(before=st.integers(0, 32), payload=st.binary(max_size=99))
def test_the_header_before_ip_may_have_any_length(before: int, payload: bytes) -> None:
    for packet, host in ((ipv4(28 + len(payload), payload), "192.0.2.2"), (ipv6(payload), "2001:db8::2")):
        assert find_datagram(bytes(before) + packet) == Datagram(ip_address(host), 2, payload)


@given(st.binary(max_size=200))
def test_any_other_frame_has_none_or_one_that_ends_it(frame: bytes) -> None:
    found = find_datagram(frame)
    assert found is None or frame.endswith(found.payload)


def test_a_packet_that_says_another_length_is_none() -> None:
    assert find_datagram(ipv4(200, WORDS)) is None
