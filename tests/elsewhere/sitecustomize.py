"""Python's start on another system, as far as this one can play it.

With this folder in PYTHONPATH, TOXPROXY_ELSEWHERE names the system, as `sys.platform` does there: modules and
names that Python lacks on it are taken away. What the standard library has imported before goes on
with the system that it is really on. The descriptors of Windows are none here, and its locks are flock's.
"""

from __future__ import annotations

import os
import sys

SYSTEM = os.environ.get("TOXPROXY_ELSEWHERE", "")

# Names that CPython has on Linux only, and those that it has on Linux and macOS.
LINUX = {
    "os": "O_PATH O_DIRECT O_TMPFILE pidfd_open memfd_create eventfd posix_fadvise",
    "select": "epoll EPOLLIN EPOLLOUT EPOLLERR EPOLLHUP EPOLLRDHUP EPOLLET POLLRDHUP",
    "socket": "AF_NETLINK NETLINK_ROUTE SO_PEERCRED SO_BINDTODEVICE TCP_INFO TCP_KEEPIDLE TCP_USER_TIMEOUT"
    " TCP_QUICKACK MSG_ERRQUEUE MSG_CMSG_CLOEXEC SOCK_NONBLOCK SOCK_CLOEXEC",
    "time": "CLOCK_BOOTTIME",
}
POSIX = {
    "os": "fork forkpty getuid geteuid getgid getegid setuid setgid getgroups uname chown fchown lchown"
    " fchmod mkfifo mknod killpg setsid getpgid getsid nice sysconf statvfs pread pwrite sendfile openpty"
    " getloadavg O_NOFOLLOW O_DIRECTORY O_NONBLOCK O_CLOEXEC O_NOCTTY O_SYNC WNOHANG",
    "select": "poll POLLIN POLLOUT POLLERR POLLHUP POLLPRI",
    "signal": "SIGHUP SIGUSR1 SIGUSR2 SIGQUIT SIGALRM SIGCHLD SIGPIPE SIGWINCH alarm setitimer pause sigwait"
    " pthread_sigmask pthread_kill",
    "socket": "AF_UNIX SO_REUSEPORT MSG_DONTWAIT MSG_EOR CMSG_SPACE CMSG_LEN SCM_RIGHTS send_fds recv_fds"
    " IPV6_RECVPKTINFO sethostname TCP_NOTSENT_LOWAT",
    "time": "clock_gettime clock_gettime_ns CLOCK_MONOTONIC CLOCK_REALTIME tzset",
}
POSIX_MODULES = (
    "fcntl termios tty pty resource pwd grp syslog readline curses _curses uvloop posix crypt spwd"
)
# Loaded while this is still the system that it is: they ask for it when they are imported, or later.
BEFORE = (
    "asyncio ctypes.util concurrent.futures.thread email.message getpass http.client http.server"
    " importlib.metadata importlib.resources logging.handlers multiprocessing platform shutil socket ssl"
    " subprocess tempfile urllib.request uuid webbrowser zipfile"
    " aiohttp.web cffi cryptography.hazmat.primitives.asymmetric.x25519 enet h11 idna ifaddr lz4.block"
    " prometheus_client python_socks.async_.asyncio segno shtab spake2"
)


def _begin() -> None:
    import importlib

    for name in BEFORE.split():
        importlib.import_module(name)
    import select
    import selectors
    import types

    selectors.select = types.SimpleNamespace(**vars(select))
    lacking = [LINUX]
    if SYSTEM == "win32":
        lacking.append(POSIX)
        _as_windows()
    for module, names in (each for table in lacking for each in table.items()):
        for name in names.split():
            vars(importlib.import_module(module)).pop(name, None)
    sys.platform = SYSTEM
    if SYSTEM == "win32":  # platformdirs has it from the environment where there is no ctypes
        import ctypes

        sys.modules["ctypes"] = None
        importlib.import_module("platformdirs.windows")
        sys.modules["ctypes"] = ctypes


def _as_windows() -> None:
    import asyncio
    import errno
    import fcntl
    import importlib.abc
    import shutil
    import signal
    import socket
    import subprocess
    import types

    lacking = frozenset(POSIX_MODULES.split())

    class Absent(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name.partition(".")[0] in lacking:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    def locking(descriptor: int, how: int, count: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN if how == 0 else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    def pair() -> tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            one = socket.create_connection(listener.getsockname())
            return one, listener.accept()[0]

    def absent(self: object) -> None:
        raise AttributeError

    class Proactor(asyncio.SelectorEventLoop):
        def add_reader(self, *args: object) -> None:
            raise NotImplementedError

    msvcrt = types.ModuleType("msvcrt")
    vars(msvcrt).update(LK_NBLCK=2, LK_UNLCK=0, locking=locking, setmode=lambda descriptor, mode: mode)
    os.O_BINARY = 0
    for name in lacking & sys.modules.keys():
        del sys.modules[name]
    sys.modules["msvcrt"] = msvcrt
    sys.meta_path.insert(0, Absent())
    shutil._use_fd_functions = False
    socket.socketpair = pair
    for method in ("sendmsg", "recvmsg", "recvmsg_into", "sendmsg_afalg"):
        setattr(socket.socket, method, property(absent))
    asyncio.selector_events._HAS_SENDMSG = False
    for method in (
        "create_unix_connection", "create_unix_server", "add_signal_handler", "remove_signal_handler",
    ):  # fmt: skip
        delattr(asyncio.SelectorEventLoop, method)
    asyncio.new_event_loop = Proactor
    _hide_enet()
    _coarsen()
    subprocess.CREATE_NEW_PROCESS_GROUP = 0  # Popen takes no other here
    signal.SIGBREAK = signal.CTRL_BREAK_EVENT = signal.SIGTERM


def _hide_enet() -> None:
    """pyenet's build for Windows exports none of ENet's own functions."""
    import _cffi_backend
    import enet

    enet.__file__ = _cffi_backend.__file__


def _coarsen() -> None:
    """Windows' clock behind time.monotonic, as Python has it up to 3.12 (GetTickCount64)."""
    import time
    import types

    step, fine, told = 0.015625, time.monotonic, time.get_clock_info
    time.monotonic = lambda: fine() // step * step
    coarse = types.SimpleNamespace(resolution=step)
    time.get_clock_info = lambda name: coarse if name == "monotonic" else told(name)


if SYSTEM:
    _begin()
