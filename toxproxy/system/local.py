"""Unix sockets: made, found, handed over, and asked who is at the other end.

Python has none on Windows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from toxproxy.system import files

if TYPE_CHECKING:
    import asyncio

P = TypeVar("P", bound="asyncio.BaseProtocol")

#: The family of Unix sockets; None where there are none.
FAMILY: int | None = getattr(socket, "AF_UNIX", None)

_BACKLOG = 64
_SUN_PATH_BYTES = 104  # struct sockaddr_un: 108 on Linux, 104 elsewhere, with the final NUL
_UCRED = struct.Struct("iII")  # socket(7), SO_PEERCRED: process, user, group
_SO_PEERCRED = getattr(socket, "SO_PEERCRED", 0)
_O_PATH, _O_NOFOLLOW = getattr(os, "O_PATH", 0), getattr(os, "O_NOFOLLOW", 0)
_sockets: Any = socket  # names that not every system has
_select: Any = select


def stream_socket() -> socket.socket:
    """A new stream socket. Raises `OSError`."""
    return socket.socket(_family(), socket.SOCK_STREAM)


def is_local(sock: socket.socket) -> bool:
    """Whether this is a Unix socket."""
    return FAMILY is not None and sock.family == FAMILY


async def join(sock: socket.socket, protocol_factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
    """A protocol on a connected socket, Unix or TCP. Raises `OSError`."""
    import asyncio  # not at once: `toxproxy connect` has to start fast

    loop = asyncio.get_running_loop()
    if is_local(sock):
        return await loop.create_unix_connection(protocol_factory, sock=sock)
    return await loop.create_connection(protocol_factory, sock=sock)


def listen(path: Path) -> socket.socket:
    """A socket at `path` that only this user can connect to, from the first moment on.

    It takes the place of whatever was there, which the caller must own. Raises `OSError`.
    """
    sock = stream_socket()
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


class SocketFile(socket.socket):
    """A listening Unix socket at `path`, in a file of this `mode`. Closing it removes the file.

    The file of a program that was killed is replaced. Raises `OSError`: `EADDRINUSE` where something
    listens there, `EEXIST` where there is something else than a socket, or a socket of another user.
    """

    def __init__(self, path: str, mode: int, backlog: int) -> None:
        super().__init__(_family(), socket.SOCK_STREAM)
        self._path = path
        self._made: tuple[int, int] | None = None
        try:
            try:
                self._bind(mode)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                _clear(path)
                self._bind(mode)
            self.listen(backlog)
        except BaseException:
            self.close()
            raise

    def _bind(self, mode: int) -> None:
        before = os.umask(0o777 & ~mode)  # the file's mode, set by bind itself
        try:
            self.bind(self._path)
        finally:
            os.umask(before)
        self._made = _identity(self._path)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._made is not None and _identity(self._path) == self._made:
                os.unlink(self._path)
        self._made = None
        super().close()


def _clear(path: str) -> None:
    """Remove the socket at `path` if nothing listens there. Raises `OSError` as `SocketFile`."""
    found = os.lstat(path)
    if not stat.S_ISSOCK(found.st_mode) or (files.foreign(found) and found.st_uid):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with stream_socket() as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    # Another program may have replaced it just now: then it is put back.
    aside = f"{path}.{os.getpid()}"
    os.rename(path, aside)
    if _identity(aside) != (found.st_dev, found.st_ino):
        os.rename(aside, path)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(aside)


def _identity(path: str) -> tuple[int, int]:
    status = os.lstat(path)
    return status.st_dev, status.st_ino


def real(path: str) -> str:
    """The path with its symbolic links resolved, as far as it exists."""
    return os.path.realpath(path)


@contextlib.contextmanager
def exactly(path: str) -> Iterator[str]:
    """A name for the socket that is at `path`, which has no symbolic links in it. Raises `OSError`.

    On Linux the name stays that of the same file, whatever happens to the path. Elsewhere it is the path.
    """
    if sys.platform != "linux":
        yield path
    else:
        with _kept(path) as name:
            yield name


@contextlib.contextmanager
def _kept(path: str) -> Iterator[str]:
    descriptor = os.open(path, _O_PATH | _O_NOFOLLOW)
    try:
        name = f"/proc/self/fd/{descriptor}"
        if os.readlink(name) != path:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        yield name
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reached(path: Path) -> Iterator[str]:
    """The path in a form that fits a socket's address, however deep the folder is. Raises `OSError`.

    A path that is too long is reached through the folder's descriptor (Linux's /proc). Elsewhere it is
    an error.
    """
    if len(os.fsencode(path)) < _SUN_PATH_BYTES:
        yield str(path)
        return
    if sys.platform != "linux":
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def may_ask(sock: socket.socket) -> bool:
    """Whether the other end of an accepted Unix socket is a process of this user, or of root.

    True where the system does not tell: then the file's mode has to do.
    """
    return sys.platform != "linux" or _user(sock) in (os.geteuid(), 0)


def may_answer(sock: socket.socket) -> bool:
    """Whether what listens on a connected Unix socket is of this user or of root. Root asks everybody."""
    return files.is_root() or may_ask(sock)


def received(sock: socket.socket, size: int) -> tuple[bytes, list[socket.socket]]:
    """At most `size` bytes, and the socket that came with them, if one did (unix(7), SCM_RIGHTS).

    Raises `BlockingIOError` where nothing has come, and `OSError`, also for a descriptor of another kind.
    """
    data, descriptors, _, _ = _sockets.recv_fds(sock, size, 1, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    try:
        return data, [socket.socket(fileno=descriptor) for descriptor in descriptors]
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise


def send_with(sock: socket.socket, data: bytes, given: socket.socket) -> None:
    """Send `data` on a Unix socket, and hand `given` over with it (unix(7), SCM_RIGHTS). Raises `OSError`."""
    _sockets.send_fds(sock, [data], [given.fileno()])


def half_closed(sock: socket.socket) -> bool:
    """Whether the other end has closed its direction, but not the socket: its process has not ended.

    True where the system does not tell.
    """
    if (half := getattr(select, "POLLRDHUP", None)) is None:
        return True
    poll = _select.poll()
    poll.register(sock, half)
    events = dict(poll.poll(0)).get(sock.fileno(), 0)
    return bool(events & half) and not events & _select.POLLHUP


def _user(sock: socket.socket) -> int:
    _, user, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERCRED, _UCRED.size))
    return int(user)


def _family() -> int:
    if FAMILY is None:
        raise OSError(errno.EAFNOSUPPORT, "this system has no Unix sockets")
    return FAMILY
