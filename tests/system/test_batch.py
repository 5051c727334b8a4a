"""Many datagrams with one system call, and the same one by one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from toxproxy.system import batch
from toxproxy.system.batch import MOST, Batch, Cork, segments

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["with batches", "one by one"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Two UDP sockets that are connected to each other."""
    if request.param == "one by one":
        monkeypatch.setattr(batch, "_library", lambda: None)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        for sock in (one, other):
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        yield one, other


def test_what_was_put_in_arrives_with_the_header_in_front(pair: Pair) -> None:
    out, into = Batch(pair[0], 1371), Batch(pair[1], 1371, b"\xe2\x07")
    datagrams = [bytes([n]) * size for n, size in enumerate((1, 1371, 2, 1370, 50))]
    for number, datagram in enumerate(datagrams):
        out.put(number, memoryview(datagram))
    out.send(len(datagrams))
    lengths = into.receive(3)
    assert lengths == [1, 1371, 2]
    for pointer, at, length, datagram in zip(into.pointers, into.starts, lengths, datagrams, strict=False):
        assert bytes(into.buffer[at - 2 : at + length]) == b"\xe2\x07" + datagram
        assert bytes(pointer[0 : 2 + length]) == b"\xe2\x07" + datagram
    assert into.receive(8) == [1370, 50]
    assert into.receive(8) == []


def test_only_the_slots_asked_for_are_sent_and_each_time_with_their_size(pair: Pair) -> None:
    out, into = Batch(pair[0], 100), Batch(pair[1], 100)
    for number in range(4):
        out.put(number, memoryview(bytes(50)))
    out.send(2)
    assert into.receive(4) == [50, 50]
    out.put(0, memoryview(b"x"))
    out.send(1)
    assert into.receive(4) == [1]


def test_datagrams_of_one_size_arrive_as_they_were(pair: Pair) -> None:
    """The kernel takes them as one, and cuts them again."""
    out, into = Batch(pair[0], 1371), Batch(pair[1], 1371)
    for size in (1, 100, 1353, 1371):
        for count in (1, 2, 3, 40, MOST):
            for last in {1, size - 1, size} - {0}:
                sizes = [size] * (count - 1) + [last]
                for number, length in enumerate(sizes):
                    out.put(number, memoryview(bytes([number]) * length))
                out.send(count)
                assert into.receive(MOST) == sizes
                assert all(into.buffer[at] == number for number, at in enumerate(into.starts[:count]))
                assert into.receive(1) == []


@pytest.mark.parametrize(
    ("sizes", "size"),
    [
        ([5], 5),
        ([5, 5], 5),
        ([5, 4], 5),
        ([5, 5, 1], 5),
        ([5, 6], 0),
        ([5, 4, 4], 0),
        ([5, 4, 5], 0),
        ([5, 5, 4, 5, 5], 0),
        ([5, 4, 5, 4], 0),
        ([5, 0], 0),
        ([1371] * 48, 0),
        ([1353] * 48, 1353),
    ],
)
def test_segments_have_one_size_but_the_last_one(sizes: list[int], size: int) -> None:
    assert segments(sizes) == size


def test_what_is_written_under_a_cork_leaves_at_its_end(pair: Pair) -> None:
    cork, into = Cork(pair[0].fileno()), Batch(pair[1], 1371)
    if not cork.works:
        pytest.skip("this system cannot join datagrams")
    for sizes in ([1353] * MOST, [700, 700, 3], [9, 9]):
        cork.begin(sizes[0])
        for size in sizes:
            pair[0].send(bytes(size))
        assert into.receive(MOST) == []
        cork.end()
        assert into.receive(MOST) == sizes
    pair[0].send(bytes(1371))
    pair[0].send(bytes(3))
    assert into.receive(MOST) == [1371, 3]


def test_what_the_system_refuses_is_lost_and_the_others_arrive(pair: Pair) -> None:
    out, into = Batch(pair[0], 70_000), Batch(pair[1], 70_000)
    for number, size in enumerate((1, 66_000, 3, 66_000)):
        out.put(number, memoryview(bytes(size)))
    out.send(4)
    assert into.receive(4) == [1, 3]


def test_a_full_socket_loses_what_comes_and_does_not_block(pair: Pair) -> None:
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    out, into = Batch(pair[0], 1000), Batch(pair[1], 1000)
    for number in range(40):
        out.put(number, memoryview(bytes(1000)))
    out.send(40)
    assert 0 < len(into.receive(48)) < 40
