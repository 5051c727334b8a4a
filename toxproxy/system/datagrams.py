"""A UDP socket that never waits."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any

MOST_DATAGRAM = 0xFFFF  # bytes
_IN_A_ROW = 64  # datagrams that are read before others get their turn


class _ReadBuffer(threading.local):
    """One buffer for all sockets of a thread's event loop. What was read is copied out at once."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(MOST_DATAGRAM))


_buffer = _ReadBuffer()


class DatagramSocket:
    """Reads a UDP socket, and sends: at once, or not at all, as a network that has no room.

    `received` gets each datagram and the address that it came from. The socket belongs to this object.
    It must not be connected: the system would report ICMP errors then, and uvloop stops reading a socket at
    its first error.
    """

    def __init__(self, sock: socket.socket, received: Callable[[bytes, Any], None]) -> None:
        self.unsent = 0  # datagrams that the system did not take
        self._sock = sock
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def send(self, data: bytes, to: Any) -> None:
        """Send a datagram to an address."""
        if not self._open:
            return
        try:
            self._sock.sendto(data, to)
        except OSError:  # no room, too long, no route
            self.unsent += 1

    def release(self) -> socket.socket:
        """Read no more, and give the socket away."""
        if self._open:
            self._open = False
            self._loop.remove_reader(self._sock)
        return self._sock

    def close(self) -> None:
        """Close the socket."""
        self.release().close()

    def _read(self) -> None:
        view = _buffer.view
        for _ in range(_IN_A_ROW):
            if not self._open:  # `received` has closed it
                return
            try:
                size, address = self._sock.recvfrom_into(view)
            except OSError:  # there is none
                return
            self._received(bytes(view[:size]), address)
