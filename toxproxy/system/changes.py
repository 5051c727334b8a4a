"""Changes of this machine's addresses and routes, as Linux reports them (rtnetlink(7)), without polling."""

from __future__ import annotations

import errno
import socket
import sys

_ROUTE = 0  # NETLINK_ROUTE
# RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_GROUPS = 0x10 | 0x100 | 0x40 | 0x400
_MESSAGE = 8192  # bytes; what is beyond is cut off


def watch() -> socket.socket | None:
    """A socket that becomes readable when an address or a route of this machine changes.

    None where there is no such socket. The caller reads it empty with `drain`, and closes it.
    """
    if sys.platform != "linux":
        return None
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _ROUTE)
    except OSError:
        return None
    try:
        sock.bind((0, _GROUPS))
    except OSError:
        sock.close()
        return None
    return sock


def drain(sock: socket.socket) -> None:
    """Read what a socket of `watch` has. What it says is asked for anew, so that a lost message is none."""
    while True:
        try:
            sock.recv(_MESSAGE)
        except OSError as error:
            if error.errno != errno.ENOBUFS:  # messages were lost; there may be more
                return
