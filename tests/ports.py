"""Ports for tests. Each is handed out once, and to one worker of pytest-xdist."""

from __future__ import annotations

import os
import random
import socket
from itertools import cycle

# Below the range from which systems choose a port by themselves: no other program gets one by chance.
_FIRST, _LAST, _WORKERS = 24000, 32000, 16

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_own = range(_FIRST + _worker, _LAST, _WORKERS)
_begin = random.randrange(len(_own))  # other runs of the tests may be on this machine
_turns = cycle((*_own[_begin:], *_own[:_begin]))


def unused_port() -> int:
    """A port that is free for TCP and UDP at every IPv4 address, and stays free until the test uses it."""
    return next(port for port in _turns if _is_free(port))


def _is_free(port: int) -> bool:
    try:
        with socket.create_server(("", port)), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.bind(("", port))
    except OSError:
        return False
    return True
