"""A service manager, as a process sees it: the datagram socket of sd_notify(3)."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Self

PATIENCE = 30.0  # seconds


class Manager:
    """Receives what a process tells. A context manager; needs a running loop."""

    def __init__(self, path: Path, *, watchdog: float | None = None) -> None:
        self.path = path
        self.told: list[str] = []
        self._watchdog = watchdog
        self._news = asyncio.Event()

    @property
    def environment(self) -> dict[str, str]:
        """What the process gets, besides what there is."""
        watchdog = {} if self._watchdog is None else {"WATCHDOG_USEC": str(int(self._watchdog * 1e6))}
        return {**os.environ, "NOTIFY_SOCKET": str(self.path), **watchdog}

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)
        asyncio.get_running_loop().add_reader(self._socket, self._receive)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        self.told.append(self._socket.recv(4096).decode())
        self._news.set()

    async def wait_for(self, beginning: str, *, after: int = 0) -> int:
        """Wait for a message that begins so. Returns how many had come with it. Raises `TimeoutError`."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for number, message in enumerate(self.told[after:], after + 1):
                    if message.startswith(beginning):
                        return number
                self._news.clear()
                await self._news.wait()
