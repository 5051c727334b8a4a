"""File descriptors. The system limits them; 64 are reserved for links, the control socket and state."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress

SPARE = 64  # descriptors that connections may not take


def scarce(sock: socket.socket) -> bool:
    """Whether `sock`, which was just made, took one of the last `SPARE` descriptors.

    The system gives each new socket the lowest free number, so a high one means that few are left.
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most != resource.RLIM_INFINITY and sock.fileno() >= most - SPARE


def allow_most() -> None:
    """Raise this process's soft limit to its hard limit: each connection takes a descriptor."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS: the kernel refuses "unlimited"
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def occupy_standard() -> None:
    """Open descriptors 0, 1 and 2 on /dev/null if they are closed.

    Otherwise a socket could get number 2, and a library's messages to stderr would go into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
