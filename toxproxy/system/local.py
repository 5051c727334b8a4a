"""Unix sockets that are for one user only: made, reached, handed over, and asked who is at the other end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

_BACKLOG = 64
_SUN_PATH_BYTES = 104  # struct sockaddr_un: 108 on Linux, 104 elsewhere, with the final NUL
_UCRED = struct.Struct("iII")  # socket(7), SO_PEERCRED: process, user, group


def listen(path: Path) -> socket.socket:
    """A socket at `path` that only this user can connect to, from the first moment on.

    It takes the place of whatever was there, which the caller must own. Raises `OSError`.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.unlink(missing_ok=True)  # of a program with the same number that was killed just here
        with reached(new) as name:
            before = os.umask(0o177)  # the file's mode, set by bind itself
            try:
                sock.bind(name)
            finally:
                os.umask(before)
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        os.replace(new, path)
    except BaseException:
        sock.close()
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    return sock


@contextlib.contextmanager
def reached(path: Path) -> Iterator[str]:
    """The path in a form that fits a socket's address, however deep the folder is. Raises `OSError`.

    A path that is too long is reached through the folder's descriptor (Linux's /proc).
    """
    if len(os.fsencode(path)) < _SUN_PATH_BYTES:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def may_ask(sock: socket.socket) -> bool:
    """Whether the other end of an accepted Unix socket is a process of this user, or of root.

    True where the system does not tell: then the file's mode has to do.
    """
    return _user(sock) in (None, os.geteuid(), 0)


def may_answer(sock: socket.socket) -> bool:
    """Whether what listens on a connected Unix socket is of this user or of root. Root asks everybody."""
    return os.geteuid() == 0 or may_ask(sock)


def received(sock: socket.socket, size: int) -> tuple[bytes, list[socket.socket]]:
    """At most `size` bytes, and the socket that came with them, if one did (unix(7), SCM_RIGHTS).

    Raises `BlockingIOError` where nothing has come, and `OSError`, also for a descriptor of another kind.
    """
    data, descriptors, _, _ = socket.recv_fds(sock, size, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    try:
        return data, [socket.socket(fileno=descriptor) for descriptor in descriptors]
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def half_closed(sock: socket.socket) -> bool:
    """Whether the other end has closed its direction, but not the socket: its process has not ended.

    True where the system does not tell.
    """
    if (half := getattr(select, "POLLRDHUP", None)) is None:
        return True
    poll = select.poll()
    poll.register(sock, half)
    events = dict(poll.poll(0)).get(sock.fileno(), 0)
    return bool(events & half) and not events & select.POLLHUP


def _user(sock: socket.socket) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    _, user, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(user)
