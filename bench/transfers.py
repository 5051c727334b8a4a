"""What the near end of a measurement does on one connection: a download, an upload, keystrokes."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from dataclasses import dataclass

from python_socks.async_.asyncio import Proxy

_PIECE = 1 << 20
RANDOM = os.urandom(1 << 23)


@dataclass(frozen=True)
class Way:
    """How to reach the origin: at `address`, or at `beyond` through the SOCKS proxy at `address`."""

    address: tuple[str, int]
    beyond: tuple[str, int] | None = None

    async def connect(self, buffer: int = 0) -> socket.socket:
        """Connect. `buffer` is the receive buffer in bytes; 0 leaves it to the system.

        Raises `OSError` or `ProxyError`.
        """
        loop = asyncio.get_running_loop()
        if self.beyond is not None:
            proxy = Proxy.from_url(f"socks5://{self.address[0]}:{self.address[1]}")
            sock: socket.socket = await proxy.connect(*self.beyond)
        else:
            sock = socket.socket()
            sock.setblocking(False)
            if buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            try:
                await loop.sock_connect(sock, self.address)
            except BaseException:
                sock.close()
                raise
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def ask(self, line: str, buffer: int = 0) -> socket.socket:
        """Connect as `connect` does, then send the origin the request `line`."""
        sock = await self.connect(buffer)
        await asyncio.get_running_loop().sock_sendall(sock, f"{line}\n".encode())
        return sock


class Download:
    """A download of `size` bytes on one connection. `got` counts the bytes that have come.

    `silence` is the longest time without a byte, in seconds, from the beginning of `run` on.
    """

    def __init__(self, way: Way, size: int, what: str = "send") -> None:
        self.got = 0
        self._silence, self._heard = 0.0, 0.0
        self._way, self._size, self._what = way, size, what

    async def run(self) -> None:
        """Receive everything. Raises `ConnectionError` if the connection ends early."""
        loop, buffer = asyncio.get_running_loop(), bytearray(_PIECE)
        self._heard = time.perf_counter()
        with await self._way.ask(f"{self._what} {self._size}") as sock:
            while size := await loop.sock_recv_into(sock, buffer):
                self._silence = self.silence
                self._heard = time.perf_counter()
                self.got += size
        if self.got != self._size:
            raise ConnectionError(f"cut short: {self.got} of {self._size} bytes")

    @property
    def silence(self) -> float:
        """The longest time without a byte so far."""
        return max(self._silence, time.perf_counter() - self._heard) if self._heard else 0.0


class Upload:
    """An upload without an end. `got` counts the bytes that the origin says it has received."""

    def __init__(self, way: Way) -> None:
        self.got = 0
        self._way = way

    async def run(self) -> None:
        """Send until cancelled. Raises `ConnectionError` if the connection ends."""
        loop = asyncio.get_running_loop()
        with await self._way.ask("count") as sock:
            sending = asyncio.create_task(self._send(sock))
            try:
                rest = b""
                while data := await loop.sock_recv(sock, 4096):
                    *lines, rest = (rest + data).split(b"\n")
                    self.got = int(lines[-1]) if lines else self.got
            finally:
                sending.cancel()
        raise ConnectionError("cut short: the upload ended")

    async def _send(self, sock: socket.socket) -> None:
        while True:
            await asyncio.get_running_loop().sock_sendall(sock, RANDOM[:_PIECE])


class Keys:
    """A byte every `every` seconds on one connection, whether or not the last one has come back.

    Who types with `patience` waits for the last one first, as somebody does who looks at the screen.

    `times` are those of the echoes, in seconds. A byte that has not come back yet counts with what it
    has waited.
    """

    def __init__(self, way: Way, every: float = 0.05, *, patience: bool = False) -> None:
        self._way, self._every, self._patience = way, every, patience
        self._echoed = asyncio.Event()
        self._sent: list[float] = []
        self._times: list[float] = []

    async def run(self) -> None:
        """Type until cancelled. Raises `ConnectionError` if the connection ends."""
        loop = asyncio.get_running_loop()
        with await self._way.ask("echo") as sock:
            hearing = asyncio.create_task(self._hear(sock))
            try:
                due = time.perf_counter()
                while not hearing.done():
                    self._sent.append(time.perf_counter())
                    self._echoed.clear()
                    await loop.sock_sendall(sock, b"?")
                    if self._patience:
                        await self._echoed.wait()
                        due = self._sent[-1]
                    due += self._every
                    await asyncio.sleep(due - time.perf_counter())
                await hearing
            finally:
                hearing.cancel()

    @property
    def times(self) -> list[float]:
        """The time of each byte, there and back."""
        now = time.perf_counter()
        return [*self._times, *(now - sent for sent in self._sent[len(self._times) :])]

    async def _hear(self, sock: socket.socket) -> None:
        while data := await asyncio.get_running_loop().sock_recv(sock, 4096):
            now = time.perf_counter()
            self._times += [now - sent for sent in self._sent[len(self._times) :][: len(data)]]
            self._echoed.set()
        self._echoed.set()
        raise ConnectionError("cut short: the echo ended")
