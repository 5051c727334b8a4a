"""Where the commands of a user reach a program of the same user that runs: a file in its state folder.

It is a Unix socket, or, where the system has none, tells a port (see `loopback`).
"""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Protocol

from toxproxy.system import local, loopback


class Gate(Protocol):
    """`listener` listens. Whoever is accepted there and not admitted is hung up on."""

    listener: socket.socket

    async def admits(self, accepted: socket.socket) -> bool:
        """Whether the other end is a process of this user, or of root."""

    def given(self, accepted: socket.socket) -> list[socket.socket]:
        """A stream that came with the connection itself. Whoever takes it closes it."""

    def written(self, accepted: socket.socket) -> bool:
        """Whether the command has said that the end of its stream is meant."""


class _UnixGate:
    def __init__(self, path: Path) -> None:
        self.listener = local.listen(path)

    async def admits(self, accepted: socket.socket) -> bool:
        return local.may_ask(accepted)

    def given(self, accepted: socket.socket) -> list[socket.socket]:
        return []  # it comes with the request

    def written(self, accepted: socket.socket) -> bool:
        return local.half_closed(accepted)


def gate(path: Path) -> Gate:
    """Listen at `path`, in the place of a program that was killed. Raises `OSError`."""
    if local.FAMILY is not None:
        return _UnixGate(path)
    return loopback.LoopbackGate(path)


def connect(path: Path, seconds: float) -> socket.socket:
    """A connection to the program that listens at `path`; `seconds` is the timeout of the socket.

    Raises `OSError`: `FileNotFoundError`, `NotADirectoryError` and `ConnectionRefusedError` where none does,
    `PermissionError` where it is another user's.
    """
    if local.FAMILY is None:
        return loopback.connect(path, seconds)
    sock = local.stream_socket()
    try:
        sock.settimeout(seconds)
        with local.reached(path) as name:
            sock.connect(name)
        if not local.may_answer(sock):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    except BaseException:
        sock.close()
        raise
    return sock


def hand_over(path: Path, seconds: float, request: bytes) -> tuple[socket.socket, socket.socket]:
    """As `connect`, with a request on its way, and this end of a stream whose other end the program gets."""
    if local.FAMILY is None:
        return loopback.hand_over(path, seconds, request)
    sock = connect(path, seconds)
    stream, far = socket.socketpair()
    try:
        with far:
            local.send_with(sock, request, far)
    except BaseException:
        sock.close()
        stream.close()
        raise
    return sock, stream


def received(sock: socket.socket, size: int) -> tuple[bytes, list[socket.socket]]:
    """What has come of a request, at most `size` bytes, and the stream that came with it, if one did.

    Raises `BlockingIOError` where nothing has come, and `OSError`.
    """
    if local.is_local(sock):
        return local.received(sock, size)
    return loopback.received(sock, size), []


def say_written(sock: socket.socket) -> None:
    """Tell the program that the end of the stream, which comes now, is meant. Raises `OSError`."""
    if local.is_local(sock):
        sock.shutdown(socket.SHUT_WR)
    else:
        loopback.say_written(sock)
