"""Two connections joined into one, at either end of the tunnel.

A relay is a pair of `Half` protocols, one on each transport; what one transport reports, the
other is told to do. That is the whole of flow control and of half-close: a full write buffer
here pauses reading there, an end of stream here ends one direction there, a reset here is a
reset there. The transports do the buffering, and `close` flushes, so nothing is cut short.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

_LINGER_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends RST


class Half(asyncio.Protocol):
    """One end of a relay. Made in pairs by `pair()`.

    Reading is paused until both transports are there. Bytes handed to `data_received` before
    that (what a handshake read too much) are kept and go first.
    """

    __slots__ = ("_ended", "_kept", "other", "transport")

    other: Half

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._kept: list[bytes] = []
        self._ended = False  # this end's peer has finished sending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if (other := self.other.transport) is None:
            self.transport.pause_reading()
            return
        for first, second in ((self, self.other), (self.other, self)):
            second._give(first._kept)
        if self._ended:
            other.write_eof()
        if self.other._ended:
            self.transport.write_eof()
        other.resume_reading()

    def _give(self, kept: list[bytes]) -> None:
        if kept and self.transport is not None:
            self.transport.write(b"".join(kept))
            kept.clear()

    def data_received(self, data: bytes) -> None:
        if (transport := self.other.transport) is not None:
            transport.write(data)
        else:
            self._kept.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        if (transport := self.other.transport) is not None:
            transport.write_eof()
            if self.other._ended and self.transport is not None:
                transport.close()
                self.transport.close()
        return True  # the other direction stays open

    def pause_writing(self) -> None:
        if (transport := self.other.transport) is not None:
            transport.pause_reading()

    def resume_writing(self) -> None:
        if (transport := self.other.transport) is not None:
            transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if (transport := self.other.transport) is None:
            return
        if exc is None and self._ended and self.other._ended:
            transport.close()
        else:
            abort(transport)


def pair() -> tuple[Half, Half]:
    """The two halves of a new relay. Give each to its transport as protocol."""
    near, far = Half(), Half()
    near.other, far.other = far, near
    return near, far


def abort(transport: asyncio.Transport) -> None:
    """End a connection so that the other side sees a reset, not an orderly end.

    A plain `transport.abort()` on a socket sends FIN when its buffers are empty, which a peer
    takes for the end of a complete answer.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()
