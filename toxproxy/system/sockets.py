"""TCP sockets: what is set on each of them, and what the event loops raise for theirs."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

_ASK_AFTER = 60  # seconds of silence, after which the system asks whether the peer is there,
_ASK_EVERY = 15  # how often it asks again,
_ASK_MOST = 4  # and how often in vain until the connection is lost: two minutes in all

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
