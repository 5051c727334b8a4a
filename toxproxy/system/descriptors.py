"""File descriptors. The system limits them; 64 are reserved for links, the control socket and state."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress

from toxproxy.system import loops

if sys.platform != "win32":
    import resource

SPARE = 64  # descriptors that connections may not take

#: The numbers that a socket which was just opened may have. On Windows they are handles.
NUMBERS = range(4, 1 << 16, 4) if sys.platform == "win32" else range(3, 4096)


def scarce(sock: socket.socket) -> bool:
    """Whether `sock`, which was just made, took one of the last `SPARE` descriptors.

    The system gives each new socket the lowest free number, so a high one means that few are left. On
    Windows it has no limit, but the loop's select() has.
    """
    if sys.platform == "win32":
        return loops.room() <= SPARE
    else:
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return most != resource.RLIM_INFINITY and sock.fileno() >= most - SPARE


def allow_most() -> None:
    """Raise this process's soft limit to its hard limit: each connection takes a descriptor."""
    if sys.platform != "win32":
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
