"""What a test may expect of the machine's resolver: without /etc/hosts it may not even know `localhost`."""

from __future__ import annotations

import socket

import pytest


def _addresses(name: str) -> set[object]:
    try:
        return {info[4][0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()


#: What a test's own resolver knows; see the fixture `hosts`.
Hosts = dict[str, list[str]]

#: For what runs in processes of its own; within its own process a test brings its names along.
needs_localhost = pytest.mark.skipif(
    "127.0.0.1" not in _addresses("localhost"), reason="localhost is not 127.0.0.1 on this machine"
)
