"""Signals as events of a running loop.

Windows' loops have no `add_signal_handler`, and select() there does not end at a signal. Ctrl-C is a signal
there, too; Ctrl-Break and the end of a console are SIGBREAK.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

#: A terminal was closed, or a service is to read its configuration again; None where there is no such signal.
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)

#: The signals that ask a program to end, but for `HANGUP`.
ENDING: tuple[signal.Signals, ...]

if sys.platform == "win32":
    ENDING = (signal.SIGINT, signal.SIGBREAK)
else:
    ENDING = (signal.SIGINT, signal.SIGTERM)


def ignored(number: signal.Signals) -> bool:
    """Whether the program was started so that a signal does nothing, as under nohup."""
    return signal.getsignal(number) is signal.SIG_IGN


class Watch:
    """Calls `handlers` of the running loop at their signals, until it is closed. For the main thread."""

    def __init__(self, handlers: Mapping[signal.Signals, Callable[[], None]]) -> None:
        self._loop = asyncio.get_running_loop()
        self._numbers = tuple(handlers)
        self._before: dict[signal.Signals, Any] = {}
        self._wake: tuple[socket.socket, socket.socket] | None = None
        if sys.platform != "win32":
            for number, handler in handlers.items():
                self._loop.add_signal_handler(number, handler)
            return
        self._wake_the_loop()
        for number, handler in handlers.items():
            self._before[number] = signal.signal(number, self._later(handler))

    def close(self) -> None:
        """Everything is as before."""
        if sys.platform != "win32":
            for number in self._numbers:
                self._loop.remove_signal_handler(number)
            return
        for number, before in self._before.items():
            signal.signal(number, before)
        if self._wake is not None:
            signal.set_wakeup_fd(-1)
            self._loop.remove_reader(self._wake[0])
            for sock in self._wake:
                sock.close()

    def _later(self, handler: Callable[[], None]) -> Callable[[int, FrameType | None], None]:
        def came(number: int, frame: FrameType | None) -> None:
            self._loop.call_soon_threadsafe(handler)

        return came

    def _wake_the_loop(self) -> None:
        """Have a signal end the loop's select(). The loop that starts processes does that itself."""
        ours, theirs = socket.socketpair()
        for sock in (ours, theirs):
            sock.setblocking(False)
        try:
            self._loop.add_reader(ours, self._woken, ours)
        except NotImplementedError:
            ours.close()
            theirs.close()
            return
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._wake = ours, theirs

    @staticmethod
    def _woken(sock: socket.socket) -> None:
        with suppress(OSError):
            sock.recv(4096)
