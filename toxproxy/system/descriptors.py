"""Open files. A process may have only so many: the last 64 are kept for links, control socket and state."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress

SPARE = 64


def scarce(sock: socket.socket) -> bool:
    """Whether `sock`, just made, is among the last: the system gives the lowest number that is free."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most != resource.RLIM_INFINITY and sock.fileno() >= most - SPARE


def allow_most() -> None:
    """Raise this process's limit as far as it may by itself: each connection takes a descriptor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS: "unlimited" is more than the kernel takes
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def occupy_standard() -> None:
    """Open 0, 1 and 2 where they were closed: a socket there would get what a library writes to stderr."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
