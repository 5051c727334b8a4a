"""A way to this user's running programs for systems without Unix sockets: a port of 127.0.0.1 and a secret.

Everybody on the machine can connect to the port, and, once the program is gone, listen on it. So both ends
prove that they have read the secret. It stands, with the port, in a file that only this user can read:
`PORT SECRET`. Nothing of it goes over the connection:

    program -> command   32 random bytes
    command -> program   32 random bytes, HMAC-SHA256(secret, "command" + the first + the second)
    program -> command   HMAC-SHA256(secret, "program" + the first + the second)

A named pipe of Windows would need another event loop than the one that watches sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import secrets
import socket
import tempfile
from pathlib import Path

_HOST = "127.0.0.1"
_BACKLOG = 64
_BYTES = 32  # of a secret, a random number, a proof
_SECONDS = 5.0  # for the proof of a command to come
_MOST_FILE = 200  # bytes


class Foreign(ConnectionRefusedError):
    """What listens on the port does not know the secret: the program is gone."""


class LoopbackGate:
    """Listens on a port by chance, and writes `path`. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._secret = secrets.token_bytes(_BYTES)
        self.listener = socket.create_server((_HOST, 0), backlog=_BACKLOG)
        try:
            self.listener.setblocking(False)
            _write(path, f"{self.listener.getsockname()[1]} {self._secret.hex()}\n")
        except BaseException:
            self.listener.close()
            raise

    async def admits(self, accepted: socket.socket) -> bool:
        """Whether the other end of an accepted connection proves within 5 s that it knows the secret."""
        loop = asyncio.get_running_loop()
        accepted.setblocking(False)
        try:
            async with asyncio.timeout(_SECONDS):
                numbers = secrets.token_bytes(_BYTES)
                await loop.sock_sendall(accepted, numbers)
                numbers += await _exactly(accepted, _BYTES)
                proof = await _exactly(accepted, _BYTES)
                if not hmac.compare_digest(proof, _proof(self._secret, b"command", numbers)):
                    return False
                await loop.sock_sendall(accepted, _proof(self._secret, b"program", numbers))
        except OSError:  # a timeout is one
            return False
        return True


def connect(path: Path, seconds: float) -> socket.socket:
    """A connection to the program that wrote `path`. Each step takes at most `seconds`.

    Raises `OSError`: `FileNotFoundError` and `ConnectionRefusedError` where it does not run.
    """
    port, secret = _read(path)
    sock = socket.create_connection((_HOST, port), seconds)
    try:
        with sock.makefile("rb") as answers:
            numbers = answers.read(_BYTES) + secrets.token_bytes(_BYTES)
            sock.sendall(numbers[-_BYTES:] + _proof(secret, b"command", numbers))
            proof = answers.read(_BYTES)
        if not hmac.compare_digest(proof, _proof(secret, b"program", numbers)):
            raise Foreign
    except ConnectionError as error:
        sock.close()
        raise Foreign from error
    except BaseException:
        sock.close()
        raise
    return sock


def _proof(secret: bytes, who: bytes, numbers: bytes) -> bytes:
    return hmac.digest(secret, who + numbers, "sha256")


async def _exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes. Raises `ConnectionError` where the other end sends fewer."""
    data = b""
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not piece:
            raise ConnectionAbortedError
        data += piece
    return data


def _write(path: Path, text: str) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # 0600
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _read(path: Path) -> tuple[int, bytes]:
    """The port and the secret. A file that has neither is of a program that is gone."""
    with open(path, "rb") as file:
        port, _, secret = file.read(_MOST_FILE).decode("ascii", "replace").strip().partition(" ")
    try:
        number, key = int(port), bytes.fromhex(secret)
    except ValueError:
        raise Foreign from None
    if not 0 < number < 1 << 16 or len(key) != _BYTES:
        raise Foreign
    return number, key
