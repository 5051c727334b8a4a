"""Sockets of this process in a place of the rig, and a UDP port that says how it is seen."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading
from pathlib import Path

from toxproxy.demo.network import Place

Address = tuple[str, int]

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_PIECE = 2048


def socket_in(place: Place, kind: socket.SocketKind = socket.SOCK_STREAM) -> socket.socket:
    """A new IPv4 socket in the network namespace of a place, where it stays. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    made: list[socket.socket | OSError] = []

    def make() -> None:  # in a thread of its own, since a thread stays where it went
        try:
            with (Path("/run/netns") / place.command[-1]).open() as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET):
                    code = ctypes.get_errno()
                    raise OSError(code, os.strerror(code))
                made.append(socket.socket(socket.AF_INET, kind))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    (one,) = made
    if isinstance(one, OSError):
        raise one
    one.setblocking(False)
    return one


class Probe:
    """A UDP port in a place. `address` is the one that it has itself."""

    def __init__(self, place: Place, port: int = 0) -> None:
        self._sock = socket_in(place, socket.SOCK_DGRAM)
        self._sock.bind(("0.0.0.0", port))
        self.address: Address = (place.address, self._sock.getsockname()[1])

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._sock.close()

    def send(self, to: Address, data: bytes = b"?") -> None:
        """Send a datagram. One that a rule drops counts as sent."""
        try:
            self._sock.sendto(data, to)
        except PermissionError:
            return

    async def receive(self, seconds: float = 0.3) -> tuple[bytes, Address] | None:
        """The next datagram and who sent it. None if none came in time."""
        try:
            async with asyncio.timeout(seconds):
                data, sender = await asyncio.get_running_loop().sock_recvfrom(self._sock, _PIECE)
        except TimeoutError:
            return None
        return data, sender

    async def heard(self, seconds: float = 0.3) -> Address | None:
        """Who sent the next datagram."""
        came = await self.receive(seconds)
        return came and came[1]
