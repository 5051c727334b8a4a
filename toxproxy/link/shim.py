"""The socket behind which ENet's own socket is hidden."""

from __future__ import annotations

import socket

import enet

from toxproxy.system.sockets import SENDS_TO_NAMED_WHEN_CONNECTED, duplicate, enlarge

_BUFFER = 4 * 1024 * 1024  # bytes of a socket's buffers; the kernel may give less


def join(host: enet.Host) -> socket.socket:
    """A UDP socket on loopback that is connected to the host's socket, and that to it.

    Raises `OSError`.
    """
    shim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    shim.setblocking(False)
    shim.bind(("127.0.0.1", 0))
    shim.connect(("127.0.0.1", host.address.port))
    enlarge(shim, _BUFFER)
    with duplicate(host.socket.fileno()) as own:
        enlarge(own, _BUFFER)
        if SENDS_TO_NAMED_WHEN_CONNECTED:
            own.connect(shim.getsockname())
    return shim
