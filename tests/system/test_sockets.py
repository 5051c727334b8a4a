"""Sockets of others, and how many a loop by select() can watch."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator

import pytest

from toxproxy.system import descriptors, loops
from toxproxy.system.sockets import duplicate, peek


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    """A bound one, as libtoxcore has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock


def test_a_duplicate_leaves_the_socket_as_it_was(sock: socket.socket) -> None:
    other = duplicate(sock.fileno())
    assert other.fileno() != sock.fileno()
    assert not os.get_blocking(sock.fileno())
    with pytest.raises(BlockingIOError):
        other.recv(1)
    other.close()
    sock.sendto(b"still open", sock.getsockname())
    assert sock.recv(100) == b"still open"


@pytest.mark.parametrize("system", ["linux", "win32"])
def test_a_datagram_is_looked_at_and_stays(
    sock: socket.socket, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(BlockingIOError):
        peek(sock, 4)
    sock.sendto(b"a longer one", sock.getsockname())
    for _ in range(2):
        assert peek(sock, 4) == (b"a lo", sock.getsockname())
    assert sock.recv(100) == b"a longer one"


def test_where_select_is_the_limit_a_loop_says_when_few_are_left(
    sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    loop = loops.factory()()
    pairs = [socket.socketpair() for _ in range(5)]
    try:
        before = loops.room()
        assert 0 < before < loops.MOST
        for near, _ in pairs:
            loop.add_reader(near, print)
        assert loops.room() == before - 5
        assert not descriptors.scarce(sock)
        monkeypatch.setattr(loops, "MOST", loops.MOST - loops.room() + descriptors.SPARE)
        assert descriptors.scarce(sock)
        for near, _ in pairs:
            loop.remove_reader(near)
        assert not descriptors.scarce(sock)
    finally:
        loop.close()
        for pair in pairs:
            for each in pair:
                each.close()
