"""Files of this user: who owns them, who may look into them, and their locks.

Windows has no owner and no mode in that sense. There a file is for those for whom its folder is, and a
user's own folders are for that user, the system and its administrators. So nothing is found to be foreign
or open there.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: Flags of os.open for a file that bytes are added to, as they are: no link, and no pipe is waited for.
ADDING = (
    os.O_WRONLY
    | os.O_APPEND
    | os.O_CREAT
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_BINARY", 0)
)

_OTHERS = 0o077
_FAR = 1 << 30  # byte of a lock file that is locked on Windows: a locked byte cannot be read


def is_root() -> bool:
    """Whether this process may do what only the system's administrator may. False on Windows."""
    return sys.platform != "win32" and os.geteuid() == 0


def foreign(status: os.stat_result) -> bool:
    """Whether a file belongs to another user."""
    return sys.platform != "win32" and status.st_uid != os.geteuid()


def is_open(status: os.stat_result) -> bool:
    """Whether other users may look into a file or a folder."""
    return sys.platform != "win32" and bool(status.st_mode & _OTHERS)


def close_to_others(descriptor: int) -> None:
    """Give an open file the mode 0600. Raises `OSError`."""
    if sys.platform != "win32":
        os.fchmod(descriptor, 0o600)


def as_bytes(descriptor: int) -> None:
    """Read and write an open file as it is: Windows changes the ends of lines in what it takes for text."""
    if sys.platform == "win32":
        msvcrt.setmode(descriptor, os.O_BINARY)


def keep_names(folder: Path) -> None:
    """Have a folder's names survive a crash of the system; Windows does that itself. Raises `OSError`."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock an open file as long as it stays open, or until this process ends.

    Raises `BlockingIOError` if another process has locked it, and `OSError`. What is in it can be read.
    """
    if sys.platform == "win32":
        _at_the_far_byte(descriptor, msvcrt.LK_NBLCK)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(path: Path) -> bool:
    """Whether another process has locked a file. Raises `OSError`."""
    with open(path, "rb") as file:
        try:
            if sys.platform == "win32":
                _at_the_far_byte(file.fileno(), msvcrt.LK_NBLCK)
                _at_the_far_byte(file.fileno(), msvcrt.LK_UNLCK)
            else:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if sys.platform == "win32":

    def _at_the_far_byte(descriptor: int, how: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, how, 1)
        except PermissionError as error:  # what Windows says for a lock of somebody else
            raise BlockingIOError(error.errno, error.strerror) from None
        finally:
            with suppress(OSError):
                os.lseek(descriptor, 0, os.SEEK_SET)
