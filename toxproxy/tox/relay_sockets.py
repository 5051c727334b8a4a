"""The TCP sockets of libtoxcore: to relays, and those of a relay. It names none of them.

They are found among this process's descriptors. libtoxcore does not set FD_CLOEXEC on them (0.2.12 to
0.2.22: `net_socket` and `net_accept` in network.c), while Python, libuv and ENet set it or open no TCP
sockets. A socket that was inherited at the start is taken for one of them, and does no harm.

They are watched by an epoll instance of their own, which the loop watches:

- libtoxcore closes a socket whenever it likes, and the process may reuse its number at once. The kernel
  then forgets the old one, and the loop never knew it.
- Events come at an edge. libtoxcore leaves the bytes of a packet in the kernel until all of them are
  there, so a level would wake the node all the time.
- "Writable" is an event only after a write found the socket full.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from contextlib import suppress
from enum import Enum

SEARCH_EVERY = 1.0  # seconds between two searches …
_SEARCH_SHARE = 500  # a search takes at most one of so many parts of the time
_SEARCH_SOON = 0.02  # … and if there was a hint at another socket
_FOLDER = "/proc/self/fd"
_STANDARD = 3  # descriptors that are nobody's socket
_MOST_EVENTS = 64  # at once; the others are read with the next ones
_UNSENT = 128 * 1024  # bytes that may wait in a socket beyond TCP's window; then libtoxcore refuses packets
_STALLED = 4000  # ms without an acknowledgement of what was sent, and so many repetitions …
_REPETITIONS = 3
_LIVELY = 1000  # … while another relay acknowledged in the last ms, or owes nothing
_INFO_SIZE = 104  # bytes of struct tcp_info that every Linux has (linux/tcp.h)
_NOT_SENT_LOW_AT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
_INTEREST = _ENDS = 0
if hasattr(select, "epoll"):
    _ENDS = select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
    _INTEREST = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class State(Enum):
    """How a relay takes what is sent to it."""

    LIVELY = 1
    SLOW = 2
    STALLED = 3  # it may be gone


class RelaySockets:
    """Finds and watches the TCP sockets of libtoxcore. `port` is that of this node's own relay, if it is one.

    Let the loop watch `descriptor`. It is None where the system cannot do this: then a timer has to do.

    A connection to a relay that has vanished is given up here if there is another relay. libtoxcore
    would go on to fill it for up to 40 seconds (TCP_PING_FREQUENCY and TCP_PING_TIMEOUT in TCP_common.h);
    once a write fails, it uses the other one.
    """

    def __init__(self, port: int | None) -> None:
        self.count = 0  # sockets that there were at the last search
        self.peers: frozenset[tuple[str, int]] | None = None  # the relays they were connected to, if known
        self.descriptor: int | None = None
        self._port = port
        self._listening: set[int] = set()
        self._searched_at = self._due = 0.0
        self._epoll: select.epoll | None = None
        if hasattr(select, "epoll") and os.path.isdir(_FOLDER):
            self._epoll = select.epoll()
            self.descriptor = self._epoll.fileno()

    def close(self) -> None:
        """Watch nothing any more. The sockets are libtoxcore's."""
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = self.descriptor = None

    def take_events(self) -> int:
        """Take the events, before libtoxcore handles them. Returns how many sockets had one."""
        if self._epoll is None or not self.count:
            return 0
        events = self._epoll.poll(0, _MOST_EVENTS)
        for descriptor, event in events:
            if event & _ENDS or descriptor in self._listening:
                self._due = min(self._due, self._searched_at + _SEARCH_SOON)  # there will be another socket
        return len(events)

    def search(self, now: float, *, soon: bool = False) -> bool:
        """Watch the sockets that are new, if it is time to search. Returns whether it was.

        `soon`: libtoxcore has reported something, so there may be another socket. A process with many
        descriptors searches less often.
        """
        if soon:
            self._due = min(self._due, self._searched_at + _SEARCH_SOON)
        if self._epoll is None or now < self._due:
            return False
        began = time.perf_counter()
        self._search(self._epoll)
        spent = time.perf_counter() - began
        self._searched_at, self._due = now, now + max(SEARCH_EVERY, _SEARCH_SHARE * spent)
        return True

    def _search(self, epoll: select.epoll) -> None:
        self.count = 0
        self._listening.clear()
        peers, states = set(), {}
        for name in os.listdir(_FOLDER):
            if (descriptor := int(name)) >= _STANDARD:
                with suppress(OSError):  # it was that of the listing, or is closed by now
                    if (peer := self._look_at(epoll, descriptor)) is not None:
                        peers.add(peer)
                        states[descriptor] = _state(descriptor)
        self.peers = frozenset(peers)
        if State.STALLED in states.values() and State.LIVELY in states.values():
            for descriptor, state in states.items():
                if state is State.STALLED:
                    _give_up(descriptor)

    def _look_at(self, epoll: select.epoll, descriptor: int) -> tuple[str, int] | None:
        """Watch a descriptor, if it is a socket of libtoxcore. Returns to which relay it is connected."""
        if not os.get_inheritable(descriptor):
            return None
        sock = socket.socket(fileno=descriptor)
        try:
            if sock.type != socket.SOCK_STREAM or sock.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            self.count += 1
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._listening.add(descriptor)
            with suppress(FileExistsError):  # it is watched already
                epoll.register(descriptor, _INTEREST)
                self._prepare(sock)
            if sock.getsockname()[1] == self._port:
                return None  # this is the relay
            host, port = sock.getpeername()[:2]
            return host.removeprefix("::ffff:"), port
        finally:
            sock.detach()

    def _prepare(self, sock: socket.socket) -> None:
        """Set the options of a new socket.

        A packet is sent in one piece, and has to leave at once. What waits in the kernel cannot be
        overtaken, so little may. A relay has no other place for packets: it would drop them.
        """
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if _NOT_SENT_LOW_AT is not None and sock.getsockname()[1] != self._port:
            sock.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOW_AT, _UNSENT)


def judge(info: bytes) -> State:
    """What a `struct tcp_info` (linux/tcp.h) says. Pure."""
    retransmits = info[2]
    unacknowledged, acknowledged_at = (struct.unpack_from("=I", info, at)[0] for at in (24, 56))
    if unacknowledged and retransmits >= _REPETITIONS and acknowledged_at >= _STALLED:
        return State.STALLED
    return State.LIVELY if not unacknowledged or acknowledged_at < _LIVELY else State.SLOW


def _state(descriptor: int) -> State:
    sock = socket.socket(fileno=descriptor)
    try:
        return judge(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE))
    finally:
        sock.detach()


def _give_up(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.detach()
