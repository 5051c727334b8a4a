"""The state folder: the Tox identity and other files that a node keeps between two runs.

Each role has a folder of its own. The folder has mode 0700, its files 0600. A file is replaced whole
or not at all.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from shlex import quote

import platformdirs

from toxproxy.errors import StateError
from toxproxy.system import files

_LOCK = "lock"


def default_path(role: str) -> Path:
    """The state folder of a role ("server" or "client") without --state.

    Raises `StateError` for a user without a home, as services have none.
    """
    try:
        return platformdirs.user_state_path("toxproxy", appauthor=False) / role
    except RuntimeError:
        raise StateError("this user has no home: name the folder for the state with --state") from None


def default_shown(role: str) -> str:
    """The same for people, with ~ for the home where shells know that."""
    try:
        path = default_path(role)
    except StateError:
        return "none, since this user has no home"
    with suppress(ValueError, RuntimeError):
        if sys.platform == "win32":
            return str(path)
        return f"~/{path.relative_to(Path.home())}"
    return str(path)


def option(path: Path, role: str) -> str:
    """What a command needs for this state folder: " --state DIR", or "" where it is the default."""
    try:
        known = path == default_path(role)
    except StateError:
        known = False
    return "" if known else f" --state {quote(str(path))}"


class StateFlaw(Enum):
    """Why a folder cannot be the state folder, or should not be as it is."""

    FOREIGN = "foreign"  # it, or a file in it, belongs to another user
    OPEN = "open"  # other users may look into it
    UNUSABLE = "unusable"  # it is no folder, or may not be written
    IN_USE = "in_use"  # another process has locked it


def flaw(path: Path) -> tuple[StateFlaw, Path] | None:
    """The first flaw of a folder, and where it is. Nothing is changed. One that is missing has none."""
    try:
        if not path.exists():
            return None
        if not path.is_dir():
            return StateFlaw.UNUSABLE, path
        if files.foreign(path.stat()):
            return StateFlaw.FOREIGN, path
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return StateFlaw.UNUSABLE, path
        held = [each for each in path.iterdir() if not each.name.startswith(".")]
        for file in held:
            status = file.lstat()
            if files.foreign(status):
                return StateFlaw.FOREIGN, file
            if stat.S_ISREG(status.st_mode) and not os.access(file, os.R_OK | os.W_OK):
                return StateFlaw.UNUSABLE, file
        if files.is_open(path.stat()) and held:
            return StateFlaw.OPEN, path
        if (path / _LOCK).exists() and files.is_locked(path / _LOCK):
            return StateFlaw.IN_USE, path
    except OSError:
        return StateFlaw.UNUSABLE, path
    return None


@contextmanager
def wiped(data: bytearray | None) -> Iterator[None]:
    """A block that overwrites `data` with zeros at its end, also after an exception."""
    try:
        yield
    finally:
        if data is not None:
            data[:] = bytes(len(data))  # the same length, so in place


class StateFolder:
    """A folder that belongs to this user. It is made if it is missing.

    A folder that is empty or that toxproxy used before is closed to other users (mode 0700). A folder
    that is open to others and holds something else is refused: it may be /tmp or a home directory, and
    its permissions must not change.

    Raises `StateError` if the folder cannot be used, as every method does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._claim()
        except FileExistsError:
            raise StateError(f"{path} is not a folder: choose another for the state") from None
        except OSError as error:
            raise StateError(f"{path} cannot be used for the state: {error.strerror}") from None

    def _claim(self) -> None:
        status = self.path.stat()
        if files.foreign(status):
            raise StateError(
                f"{self.path} belongs to another user (id {status.st_uid}): choose another folder"
            )
        if not files.is_open(status):
            return
        entries = os.listdir(self.path)
        if entries and _LOCK not in entries:
            raise StateError(
                f"{self.path} is open to other users and holds other files: "
                f"choose a folder of its own for the state, or chmod 700 {self.path}"
            )
        self.path.chmod(0o700)

    def read(self, name: str) -> bytes | None:
        """The content of a file, or None if there is no such file."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path / name} cannot be read: {error.strerror}") from None

    def read_private(self, name: str) -> bytearray | None:
        """As `read`, in a buffer that is the only copy. The caller wipes it (see `wiped`)."""
        path = self.path / name
        try:
            with open(path, "rb", buffering=0) as file:
                data = bytearray(os.fstat(file.fileno()).st_size)
                del data[file.readinto(data) :]
                return data
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path} cannot be read: {error.strerror}") from None

    def write(self, name: str, data: bytes | bytearray) -> None:
        """Replace a file. After a crash or on a full disk it has either the old content or the new.

        Makes no other copy of `data`.
        """
        try:
            self._replace(name, data)
        except OSError as error:
            raise StateError(f"{self.path / name} cannot be written: {error.strerror}") from None

    def _replace(self, name: str, data: bytes | bytearray) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=self.path)  # 0600
        try:
            with open(descriptor, "wb", buffering=0) as file, memoryview(data) as rest:
                done = 0
                while done < len(rest):
                    done += file.write(rest[done:])
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        files.keep_names(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """A block in which no other process can lock the folder.

        The kernel drops the lock when the process ends, however it ends. The lock file stays. Raises
        `StateError`, which names the process that holds the lock.
        """
        path = self.path / _LOCK
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StateError(f"{path} cannot be opened: {error.strerror}") from None
        try:
            try:
                files.lock(descriptor)
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            except BlockingIOError:
                owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
                raise StateError(
                    f"{self.path} is in use by process {owner}: stop it, or choose another state folder"
                ) from None
            except OSError as error:
                raise StateError(f"{path} cannot be locked: {error.strerror}") from None
            yield
        finally:
            os.close(descriptor)
