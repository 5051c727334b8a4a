"""Whether UDP packets come in."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.machine import has_ipv6
from toxproxy.tox.ahead import Ahead
from toxproxy.tox.hearing import Hearing

NODE = "127.0.0.5"


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock


@pytest.fixture
def hearing(sock: socket.socket) -> Iterator[Hearing]:
    with closing(Ahead(sock.fileno())) as ahead:
        yield Hearing(ahead)


def send(sock: socket.socket, host: str = NODE) -> None:
    """Send something to a socket from an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((host, 0))
        other.sendto(b"hello", ("127.0.0.1", sock.getsockname()[1]))


def test_without_a_question_nothing_is_known(hearing: Hearing) -> None:
    hearing.look()
    assert hearing.deaf_for(1000.0) is None


def test_a_question_that_nothing_answers_counts_after_three_seconds(hearing: Hearing) -> None:
    hearing.asked(NODE, 10.0)
    hearing.asked("127.0.0.6", 12.0)  # it is the first one that counts
    hearing.look()
    assert hearing.deaf_for(12.9) is None
    assert hearing.deaf_for(13.0) == 3.0


def test_an_answer_is_left_to_be_read_and_the_next_question_counts_again(
    hearing: Hearing, sock: socket.socket
) -> None:
    hearing.asked(NODE, 10.0)
    send(sock)
    hearing.look()
    assert sock.recv(10) == b"hello"
    assert hearing.deaf_for(20.0) is None
    hearing.asked(NODE, 30.0)
    hearing.look()
    assert hearing.deaf_for(33.0) == 3.0


def test_a_packet_of_another_is_no_answer(hearing: Hearing, sock: socket.socket) -> None:
    """A node sends packets to itself, and others may be heard where nothing gets out."""
    hearing.asked(NODE, 10.0)
    for host in ("127.0.0.1", "127.0.0.9"):
        send(sock, host)
        hearing.look()
        assert sock.recv(10) == b"hello"
    assert hearing.deaf_for(13.0) == 3.0


def test_an_error_on_the_socket_is_no_answer(sock: socket.socket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((NODE, 0))
        sock.connect(gone.getsockname())
    with closing(Ahead(sock.fileno())) as ahead:
        hearing = Hearing(ahead)
        hearing.asked(NODE, 10.0)
        sock.send(b"to nobody")  # the kernel answers with an ICMP error, which the socket reports
        hearing.look()
    assert hearing.deaf_for(13.0) == 3.0


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv4_node_is_known_on_a_socket_for_both() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", 0))
        with closing(Ahead(sock.fileno())) as ahead:
            hearing = Hearing(ahead)
            hearing.asked(NODE, 10.0)
            send(sock)
            hearing.look()
        assert hearing.deaf_for(20.0) is None
