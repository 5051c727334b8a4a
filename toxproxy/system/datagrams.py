"""A UDP socket that never waits."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
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
    ICMP errors are ignored: they may be forged, and who sends datagrams does without an answer.
    """

    def __init__(self, sock: socket.socket, received: Callable[[bytes, Any], None]) -> None:
        self.unsent = 0  # datagrams that the system did not take
        self._sock = sock
        self._received = received
        self._loop = asyncio.get_running_loop()
        self._open = True
        sock.setblocking(False)
        self._loop.add_reader(sock, self._read)

    def send(self, data: bytes, to: Any = None) -> None:
        """Send a datagram to an address, or to the one that the socket is connected to."""
        if not self._open:
            return
        for _ in range(2):  # the first call may raise the error of an earlier datagram
            try:
                if to is None:
                    self._sock.send(data)
                else:
                    self._sock.sendto(data, to)
                return
            except ConnectionError:
                continue
            except OSError:  # no room, too long, no route
                break
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
            with suppress(ConnectionError):
                try:
                    size, address = self._sock.recvfrom_into(view)
                except (BlockingIOError, InterruptedError):
                    return
                except ConnectionError:
                    raise
                except OSError:
                    return
                self._received(bytes(view[:size]), address)
