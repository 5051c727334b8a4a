"""Whether a relay still takes what is sent to it, and how libtoxcore is told that it does not.

libtoxcore takes a dead connection to a relay for one that is full or has nothing to read, for up to 40
seconds (`write_packet_TCP_secure_connection`, `read_TCP_length` in TCP_common.c; TCP_PING_FREQUENCY and
TCP_PING_TIMEOUT in TCP_common.h; 0.2.12 to 0.2.22).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from enum import Enum

from toxproxy.system.sockets import tcp_info

_STALLED = 4000  # ms without an acknowledgement of what was sent, and so many repetitions …
_REPETITIONS = 3
_LIVELY = 1000  # … while another relay acknowledged in the last ms, or owes nothing
_INFO_SIZE = 104  # bytes of struct tcp_info that every Linux has (linux/tcp.h)
_NONSENSE = b"\xff" * 4096  # a length above libtoxcore's maximum, or a packet that cannot be decrypted
_KEEPALIVE = (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 5))  # seconds, and a number

Peer = tuple[str, int]  # the address and the port of a relay


class State(Enum):
    """How a relay takes what is sent to it."""

    LIVELY = 1
    SLOW = 2
    STALLED = 3  # it may be gone, or the way to it
    DEAD = 4


def judge(info: bytes) -> State:
    """What a `struct tcp_info` (linux/tcp.h) says. Pure."""
    retransmits = info[2]
    unacknowledged, acknowledged_at = (struct.unpack_from("=I", info, at)[0] for at in (24, 56))
    if unacknowledged and retransmits >= _REPETITIONS and acknowledged_at >= _STALLED:
        return State.STALLED
    return State.LIVELY if not unacknowledged or acknowledged_at < _LIVELY else State.SLOW


def state_of(sock: socket.socket) -> State:
    """The state of a connected socket. It is stalled, too, if this machine lost the socket's address."""
    host, _, *rest = sock.getsockname()
    with socket.socket(sock.family, socket.SOCK_STREAM) as other:
        try:
            other.bind((host, 0, *rest))
        except OSError:
            return State.STALLED
    return judge(tcp_info(sock, _INFO_SIZE))


def ask(sock: socket.socket, wanted: bool) -> None:
    """Let the kernel ask each second whether the other end is there, or no more.

    A router or a relay that does not know the connection answers with a reset.
    """
    if wanted:
        for name, value in _KEEPALIVE:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, wanted)


def end(descriptor: int) -> None:
    """Put something in the place of a socket that makes libtoxcore end the connection at its next iteration.

    It connects again at once if the relay had been in use.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        ours.sendall(_NONSENSE)
        os.dup2(theirs.fileno(), descriptor, inheritable=False)


class Probes:
    """Tries new connections to relays whose old one is stalled. It is dead if a new one can be made.

    Otherwise the network may be away for a while, and TCP goes on when it is back.
    """

    def __init__(self) -> None:
        self._sockets: dict[Peer, socket.socket] = {}

    def answers(self, peer: Peer) -> bool:
        """Whether the relay has accepted a new connection. Begins to make one. Never waits."""
        sock = self._sockets.get(peer)
        if sock is not None and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            with suppress(OSError):  # it is not connected yet
                sock.getpeername()
                return True
            return False
        if sock is not None:
            sock.close()
        family = socket.AF_INET6 if ":" in peer[0] else socket.AF_INET
        self._sockets[peer] = sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.connect_ex(peer)
        return False

    def keep(self, peers: Iterable[Peer]) -> None:
        """Close the connections to all others."""
        for peer in self._sockets.keys() - set(peers):
            self._sockets.pop(peer).close()
