"""A UDP socket that never waits."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import Any

MOST_DATAGRAM = 0xFFFF  # bytes
_IN_A_ROW = 64  # datagrams that are read before others get their turn
_IP_PKTINFO = 8  # linux/in.h; ip(7)
_PKTINFO, _PKTINFO6 = struct.Struct("=i4s4s"), struct.Struct("=16si")
_socket: Any = socket  # names that not every system has
_EVERY = ("0.0.0.0", "::")


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
            self._transmit(data, to)
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
                size, address = self._receive(view)
            except OSError:  # there is none
                return
            self._received(bytes(view[:size]), address)

    def _receive(self, view: memoryview) -> tuple[int, Any]:
        return self._sock.recvfrom_into(view)

    def _transmit(self, data: bytes, to: Any) -> None:
        self._sock.sendto(data, to)


class AnsweringSocket(DatagramSocket):
    """Bound to all addresses of this machine, it answers from the one that a datagram was sent to.

    By itself the system answers from the address of the way back, and a client that has sent to another
    one ignores that. What `received` gets and `send` takes as an address is both: the client's, and ours.
    """

    def __init__(self, sock: socket.socket, received: Callable[[bytes, Any], None]) -> None:
        super().__init__(sock, received)
        self._room = _socket.CMSG_SPACE(_PKTINFO6.size)  # bytes for either
        if sock.family == socket.AF_INET:
            self._info, asked = (socket.IPPROTO_IP, _IP_PKTINFO), _IP_PKTINFO
        else:
            self._info, asked = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO), _socket.IPV6_RECVPKTINFO
        sock.setsockopt(self._info[0], asked, 1)

    def _receive(self, view: memoryview) -> tuple[int, Any]:
        sock: Any = self._sock
        size, said, _, client = sock.recvmsg_into((view,), self._room)
        return size, (client, next((self._own(data) for *_, data in said), b""))

    def _own(self, data: bytes) -> bytes:
        """From this address of this machine, by whatever way; empty for a group's address."""
        if self._info[0] == socket.IPPROTO_IP:
            _, own, _ = _PKTINFO.unpack(data)  # that of the interface, where the datagram went to a group
            return _PKTINFO.pack(0, own, bytes(4))
        own, _ = _PKTINFO6.unpack(data)
        return b"" if own[0] == 0xFF else _PKTINFO6.pack(own, 0)

    def _transmit(self, data: bytes, to: Any) -> None:
        sock: Any = self._sock
        client, own = to
        sock.sendmsg((data,), ((*self._info, own),) if own else (), 0, client)


def answering(sock: socket.socket, received: Callable[[bytes, Any], None]) -> DatagramSocket:
    """For a socket that serves clients: it answers from where they have sent to, on Linux at least."""
    if sock.getsockname()[0] in _EVERY and sys.platform == "linux":
        return AnsweringSocket(sock, received)
    return DatagramSocket(sock, received)
