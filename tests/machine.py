"""What a machine may lack. A test that needs it is skipped."""

from __future__ import annotations

import os
import socket

import pytest

#: The names that a test's own resolver knows; see the fixture `hosts`.
Hosts = dict[str, list[str]]


def _addresses(name: str) -> set[object]:
    try:
        return {info[4][0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


#: For tests in which another process looks up a name. Within its own process a test uses `hosts`.
needs_localhost = pytest.mark.skipif(
    "127.0.0.1" not in _addresses("localhost"),
    reason="localhost is not 127.0.0.1 here: is there an /etc/hosts?",
)


def pseudo_terminal() -> tuple[int, int]:
    """The descriptors of the two ends of a new pseudo-terminal. Skips the test where there are none."""
    try:
        return os.openpty()
    except OSError as error:
        pytest.skip(f"this machine has no pseudo-terminals: {error}")


def has_ipv6(address: str = "::1") -> bool:
    """Whether this machine has an IPv6 address."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
