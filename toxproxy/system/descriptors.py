"""Open files, of which a process may have so many: the last ones are kept for what serves everybody.

A link that is made anew needs some, the control socket, the state folder. Connections do without
rather than take these.
"""

from __future__ import annotations

import resource
import socket

SPARE = 64


def scarce(sock: socket.socket) -> bool:
    """Whether `sock`, just made, is among the last: the system gives the lowest number that is free."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most != resource.RLIM_INFINITY and sock.fileno() >= most - SPARE
