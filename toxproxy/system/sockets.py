"""Sockets: their options, the bytes they have not sent, and the errors that event loops raise for them."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

if sys.platform != "win32":
    from fcntl import ioctl
    from termios import TIOCOUTQ

# TCP keepalive: a peer that is gone is noticed after two minutes.
_KEEPALIVE_AFTER = 60  # seconds of silence before the first probe
_KEEPALIVE_EVERY = 15  # seconds between probes
_KEEPALIVE_PROBES = 4  # unanswered ones, after which the connection is lost

_LINGER_RESET = struct.pack(
    "HH" if sys.platform == "win32" else "ii", 1, 0
)  # SO_LINGER with zero seconds: close(2) sends RST

_SO_NWRITE = 0x1024  # sys/socket.h of macOS: bytes in the send buffer; TIOCOUTQ is for terminals there
_TCP_INFO = 11  # linux/tcp.h
_WHOLE = 0xFFFF  # bytes of the longest datagram

#: Whether sendmsg() on a connected UDP socket may name an address. ENet always names one.
SENDS_TO_NAMED_WHEN_CONNECTED = sys.platform.startswith("linux")

_KEEPALIVE_OPTIONS = tuple(
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_AFTER),
        ("TCP_KEEPALIVE", _KEEPALIVE_AFTER),  # its name on macOS
        ("TCP_KEEPINTVL", _KEEPALIVE_EVERY),
        ("TCP_KEEPCNT", _KEEPALIVE_PROBES),
    )
    if hasattr(socket, name)
)


def keep_lively(sock: socket.socket) -> None:
    """Set the options that every TCP connection here needs.

    - TCP_NODELAY: small writes leave at once. asyncio sets it only on sockets that were made with the
      protocol's number.
    - SO_KEEPALIVE (RFC 9293, section 3.8.4): a peer that lost its power would otherwise hold its
      connection for ever.
    - SO_OOBINLINE: a byte sent as urgent is a byte of the stream (RFC 6093, section 5). Without the
      option it would be lost.

    Raises `OSError` for a connection that is over.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE_OPTIONS:
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def reset_when_closed(sock: socket.socket) -> None:
    """Make closing send RST instead of FIN, and drop unsent bytes. Raises `OSError`."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)


def unsent(sock: socket.socket) -> int:
    """Bytes that the peer has not acknowledged yet (tcp(7), SIOCOUTQ).

    Raises `OSError`, also where the system does not tell.
    """
    if sys.platform == "win32":
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    elif sys.platform == "darwin":
        return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    else:
        return int.from_bytes(ioctl(sock.fileno(), TIOCOUTQ, bytes(4)), sys.byteorder)


def bound_datagrams(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    """A UDP socket that is bound; one of IPv6 to that family only. Raises `OSError`."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def duplicate(descriptor: int) -> socket.socket:
    """Another object for a non-blocking socket, with a descriptor of its own. Raises `OSError`.

    On Windows the number is a handle, which os.dup does not take.
    """
    known = socket.socket(fileno=descriptor)
    try:
        known.setblocking(False)  # so it is; `dup` sets for both what this object believes
        return known.dup()
    finally:
        known.detach()


def peek(sock: socket.socket, size: int) -> tuple[bytes, Any]:
    """The first bytes of the datagram that will be read next, and its sender. Never waits. Raises `OSError`.

    Windows has no flag for a call that does not wait: there the socket has to be a non-blocking one.
    """
    if sys.platform == "win32":  # and a datagram that is longer than asked for is an error
        data, sender = sock.recvfrom(_WHOLE, socket.MSG_PEEK)
        return data[:size], sender
    else:
        return sock.recvfrom(size, socket.MSG_PEEK | socket.MSG_DONTWAIT)


def tcp_info(sock: socket.socket, size: int) -> bytes:
    """The beginning of Linux's `struct tcp_info` of a connection (linux/tcp.h). Raises `OSError`."""
    return sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, size)


def enlarge(sock: socket.socket, size: int) -> None:
    """Ask for buffers of `size` bytes. The system may give less."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def routes_ipv6() -> bool:
    """Whether this machine has a way to the IPv6 internet. Nothing is sent."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.connect(("2001:db8::1", 9))  # a documentation address (RFC 3849), which is routed as any
    except OSError:
        return False
    return True


@contextmanager
def os_errors() -> Iterator[None]:
    """A block around a loop's `sock_…` methods that turns their RuntimeError into `OSError`.

    asyncio and uvloop raise RuntimeError if they believe that a descriptor belongs to another
    connection. That happens when its number was closed and given out again.
    """
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EBADF, str(error)) from error
