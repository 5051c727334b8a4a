"""Sockets: what is set on them, what they are asked, and what the event loops raise for them."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from termios import TIOCOUTQ

_ASK_AFTER = 60  # seconds of silence, after which the system asks whether the peer is there,
_ASK_EVERY = 15  # how often it asks again,
_ASK_MOST = 4  # and how often in vain until the connection is lost: two minutes in all

_LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST

#: Whether sendmsg() on a connected UDP socket may name an address. ENet always names one.
SENDS_TO_NAMED_WHEN_CONNECTED = sys.platform.startswith("linux")

_KEEPALIVE = tuple(
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", _ASK_AFTER),
        ("TCP_KEEPALIVE", _ASK_AFTER),  # what macOS calls it
        ("TCP_KEEPINTVL", _ASK_EVERY),
        ("TCP_KEEPCNT", _ASK_MOST),
    )
    if hasattr(socket, name)
)


def keep_lively(sock: socket.socket) -> None:
    """Have small writes leave at once, and a silent peer that vanished noticed within minutes.

    Without TCP's own questions (RFC 9293, section 3.8.4) one that lost its power would hold its
    connection for ever. asyncio turns Nagle's algorithm off only for sockets that were made with the
    protocol's number. A byte sent as urgent is one of the stream (RFC 6093, section 5); without
    SO_OOBINLINE it would be lost. Raises `OSError` for a connection that is over.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset_when_closed(sock: socket.socket) -> None:
    """Have closing send RST instead of FIN, whatever is still in the system's buffer. Raises `OSError`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)


def unsent(sock: socket.socket) -> int:
    """Bytes that the peer has not acknowledged yet (tcp(7), SIOCOUTQ). Raises `OSError`."""
    return int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)


def enlarge(sock: socket.socket, size: int) -> None:
    """Ask for buffers of `size` bytes, of which the system gives what it allows."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, size)


@contextmanager
def os_errors() -> Iterator[None]:
    """Around a loop's `sock_` methods: what they say of a descriptor that cannot be used is an `OSError`.

    Both asyncio and uvloop raise RuntimeError where they take a descriptor for another connection's,
    as when that one's was closed and its number was given out again.
    """
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EBADF, str(error)) from error
