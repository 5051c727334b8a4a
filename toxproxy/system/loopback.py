"""A way to this user's running programs for systems without Unix sockets: a port of 127.0.0.1 and a secret.

Everybody on the machine can connect to the port, and, once the program is gone, listen on it. So both ends
prove that they have read the secret. It stands, with the port, in a file that only this user can read:
`PORT SECRET`. Nothing of it goes over the connection:

    program -> command   32 random bytes
    command -> program   32 random bytes, a port, HMAC-SHA256(secret, "command" + all of these)
    program -> command   HMAC-SHA256(secret, "program" + the same)

The port, if it is not 0, is one where the command waits for a second connection: a stream, as it is handed
over by a Unix socket. The program makes it and begins it with a proof, too ("stream"), before it goes on.

A named pipe of Windows would need another event loop than the one that watches sockets. asyncio is imported
late: `toxproxy connect`, which has to start fast, does without it.
"""

from __future__ import annotations

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
_PORT_BYTES = 2
_SECONDS = 5.0  # for the proof of a command to come
_MOST_FILE = 200  # bytes
_WRITTEN = b"\n"  # said by a command behind its request: the end of its stream is meant


class Foreign(ConnectionRefusedError):
    """What listens on the port does not know the secret: the program is gone."""


class LoopbackGate:
    """Listens on a port by chance, and writes `path`. Raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self._streams: dict[socket.socket, socket.socket] = {}
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
        import asyncio

        accepted.setblocking(False)
        try:
            async with asyncio.timeout(_SECONDS):
                return await self._greeted(accepted)
        except OSError:  # a timeout is one
            for stream in self.given(accepted):
                stream.close()
            return False

    async def _greeted(self, accepted: socket.socket) -> bool:
        import asyncio

        loop = asyncio.get_running_loop()
        said = secrets.token_bytes(_BYTES)
        await loop.sock_sendall(accepted, said)
        said += await _exactly(accepted, _BYTES + _PORT_BYTES)
        proof = await _exactly(accepted, _BYTES)
        if not hmac.compare_digest(proof, _proof(self._secret, b"command", said)):
            return False
        if port := int.from_bytes(said[-_PORT_BYTES:]):
            self._streams[accepted] = stream = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            stream.setblocking(False)
            await loop.sock_connect(stream, (_HOST, port))
            await loop.sock_sendall(stream, _proof(self._secret, b"stream", said))
        await loop.sock_sendall(accepted, _proof(self._secret, b"program", said))
        return True

    def given(self, accepted: socket.socket) -> list[socket.socket]:
        """The stream that was made with an accepted connection. Whoever takes it closes it."""
        stream = self._streams.pop(accepted, None)
        return [] if stream is None else [stream]

    def written(self, accepted: socket.socket) -> bool:
        """Whether the command has said `written`."""
        try:
            return accepted.recv(1, socket.MSG_PEEK) == _WRITTEN
        except OSError:  # nothing has come, or the command is gone
            return False


def connect(path: Path, seconds: float) -> socket.socket:
    """A connection to the program that wrote `path`. Each step takes at most `seconds`.

    Raises `OSError`: `FileNotFoundError` and `ConnectionRefusedError` where it does not run.
    """
    return _greet(path, seconds, 0)[0]


def hand_over(path: Path, seconds: float, request: bytes) -> tuple[socket.socket, socket.socket]:
    """As `connect`, with a request on its way, and this end of a stream whose other end the program has."""
    with socket.create_server((_HOST, 0)) as listener:
        listener.settimeout(seconds)
        sock, proof = _greet(path, seconds, listener.getsockname()[1])
        try:
            stream = _stream(listener, proof)
            sock.sendall(request)
            return sock, stream
        except BaseException:
            sock.close()
            raise


def received(sock: socket.socket, size: int) -> bytes:
    """What has come of a line, at most `size` bytes. What comes behind its end stays. Raises `OSError`."""
    data = sock.recv(size, socket.MSG_PEEK)
    return sock.recv(data.find(b"\n") + 1 or size)


def say_written(sock: socket.socket) -> None:
    """Tell the program that the end of the stream, which comes now, is meant. Raises `OSError`."""
    sock.sendall(_WRITTEN)


def _greet(path: Path, seconds: float, port: int) -> tuple[socket.socket, bytes]:
    """A connection, and how the stream begins."""
    number, secret = _read(path)
    sock = socket.create_connection((_HOST, number), seconds)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # `say_written` comes before the end
        with sock.makefile("rb") as answers:
            own = secrets.token_bytes(_BYTES) + port.to_bytes(_PORT_BYTES)
            said = answers.read(_BYTES) + own
            sock.sendall(own + _proof(secret, b"command", said))
            proof = answers.read(_BYTES)
        if not hmac.compare_digest(proof, _proof(secret, b"program", said)):
            raise Foreign
    except ConnectionError as error:
        sock.close()
        raise Foreign from error
    except BaseException:
        sock.close()
        raise
    return sock, _proof(secret, b"stream", said)


def _stream(listener: socket.socket, proof: bytes) -> socket.socket:
    """The connection that begins with `proof`, of which it is rid then. Others are hung up on."""
    while True:
        stream = listener.accept()[0]
        stream.settimeout(_SECONDS)
        with contextlib.suppress(OSError):
            begin = b""
            while len(begin) < _BYTES and (piece := stream.recv(_BYTES - len(begin))):
                begin += piece
            if hmac.compare_digest(begin, proof):
                stream.settimeout(None)
                return stream
        stream.close()


def _proof(secret: bytes, who: bytes, numbers: bytes) -> bytes:
    return hmac.digest(secret, who + numbers, "sha256")


async def _exactly(sock: socket.socket, count: int) -> bytes:
    """`count` bytes. Raises `ConnectionError` where the other end sends fewer."""
    import asyncio

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
