"""What a machine may lack, and a test then does without or is skipped for."""

from __future__ import annotations

import os
import socket

import pytest

#: What a test's own resolver knows; see the fixture `hosts`.
Hosts = dict[str, list[str]]


def _addresses(name: str) -> set[object]:
    try:
        return {info[4][0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


#: For what other processes look up; within its own process a test brings its names along.
needs_localhost = pytest.mark.skipif(
    "127.0.0.1" not in _addresses("localhost"),
    reason="localhost is not 127.0.0.1 here: is there an /etc/hosts?",
)


def pseudo_terminal() -> tuple[int, int]:
    """The descriptors of its two ends. Some containers have none: the test is skipped."""
    try:
        return os.openpty()
    except OSError as error:
        pytest.skip(f"this machine has no pseudo-terminals: {error}")


def has_ipv6(address: str = "::1") -> bool:
    """Whether an IPv6 address is one of this machine's."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind((address, 0))
    except OSError:
        return False
    return True
