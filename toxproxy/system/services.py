"""systemd: whether it runs here, where its unit files lie, and its commands. And users of the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import platformdirs

from toxproxy.errors import StateError, ToxproxyError
from toxproxy.system import files

if sys.platform != "win32":
    import pwd

_SECONDS = 60.0  # for a command of systemd
_SYSTEM_UNITS = Path("/etc/systemd/system")
_HOMES = (Path("/home"), Path("/root"), Path("/run/user"))  # what ProtectHome= hides


class NoManager(ToxproxyError):
    """There is no systemd here, or none of this user."""


def is_root() -> bool:
    """Whether this process may write the system's units."""
    return files.is_root()


def runs() -> bool:
    """Whether systemd started this machine (sd_booted(3))."""
    return sys.platform == "linux" and Path("/run/systemd/system").is_dir()


def version() -> int:
    """The version of systemd, 0 where it does not tell."""
    try:
        found = re.match(r"systemd (\d+)", _run(["systemctl", "--version"]))
    except NoManager:
        return 0
    return int(found[1]) if found else 0


def unit_folder(*, system: bool) -> Path:
    """Where unit files are written by hand."""
    return _SYSTEM_UNITS if system else platformdirs.user_config_path() / "systemd" / "user"


def systemctl(*arguments: str, system: bool) -> str:
    """What `systemctl` prints. Raises `NoManager` with what it says where it fails."""
    return _run(["systemctl", *([] if system else ["--user"]), *arguments])


def confines(*properties: str) -> bool:
    """Whether this user's systemd starts a service with these properties. It starts one that does nothing."""
    options = [f"--property={each}" for each in properties]
    try:
        _run(["systemd-run", "--user", "--wait", "--quiet", "--collect", *options, "true"])
    except NoManager:
        return False
    return True


def lingers() -> bool:
    """Whether this user's services run without a login. True where nobody tells."""
    if sys.platform == "win32":
        return True
    else:
        try:
            told = _run(["loginctl", "show-user", str(os.geteuid()), "--property=Linger"])
        except NoManager:  # who is not logged in is not known either
            return Path("/var/lib/systemd/linger", pwd.getpwuid(os.geteuid()).pw_name).exists()
        return told.strip() != "Linger=no"


def state_of(user: str, role: str) -> Path:
    """The state folder that a user of the machine has by default. Raises `StateError` for no user."""
    if sys.platform == "win32":
        raise StateError("the users of this system are not looked up: name the folder with --state")
    else:
        try:
            home = Path(pwd.getpwnam(user).pw_dir)
        except KeyError:
            raise StateError(f"this machine has no user {user}") from None
        return home / ".local" / "state" / "toxproxy" / role


def owner() -> str | None:
    """Who became root with sudo; None without sudo."""
    return os.environ.get("SUDO_USER") or None


def hidden(path: Path) -> bool:
    """Whether a user without a home cannot see `path`: it is in a home, or not open to everybody."""
    path = path.resolve()
    if any(path.is_relative_to(home) for home in _HOMES):
        return True
    return not all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except OSError as error:
        raise NoManager(f"{command[0]} cannot be run: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise NoManager(f"{' '.join(command)}: no answer within {_SECONDS:g} seconds") from None
    if done.returncode:
        raise NoManager(f"{' '.join(command)}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout
