"""Tells the service manager how this process is doing: the protocol of sd_notify(3), without its library.

A message is one datagram to the Unix socket that the environment names: lines of `NAME=value`. Without a
service manager nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress

from toxproxy.system import local

_MOST_STATUS = 400  # characters
_MICRO = 1_000_000


class Notifier:
    """What the environment asked for. Its variables are taken away, so that no child speaks for this process.

    `watchdog`: seconds within which `alive` must be called again and again, or the service manager kills
    the process; None where nobody waits for it. Nothing raises: a service goes on without its manager.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        self._address = f"\0{path[1:]}" if path.startswith("@") else path  # @: an abstract socket
        self.watchdog = _watchdog(environment) if self else None

    def __bool__(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._address[:1] in ("\0", "/") and local.FAMILY is not None

    def ready(self) -> None:
        """The process has started, or has read its configuration again."""
        self._send("READY=1")

    def reloading(self) -> None:
        """The process reads its configuration again. `ready` must follow."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The process is ending."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """What it does at the moment, for people: one line, cut to 400 characters."""
        self._send(f"STATUS={' '.join(text.split())[:_MOST_STATUS]}")

    def alive(self) -> None:
        """The process works."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if local.FAMILY is None or not self:
            return
        with socket.socket(local.FAMILY, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            with suppress(OSError):  # it is too busy, or gone
                sock.sendto(message.encode(errors="replace"), self._address)


def _watchdog(environment: MutableMapping[str, str]) -> float | None:
    process = environment.pop("WATCHDOG_PID", "")
    micros = environment.pop("WATCHDOG_USEC", "")
    meant = process in ("", str(os.getpid()))
    return int(micros) / _MICRO if meant and micros.isdecimal() and int(micros) else None
