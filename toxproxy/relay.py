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
    """One end of a relay: made in pairs by `pair()`, or alone and given to `join()` later.

    Reading is paused until the halves are joined. What arrives before that all the same is
    kept, and passed on first.
    """

    __slots__ = ("_ended", "_full", "_kept", "_other", "_sink", "lost", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        #: Done when the connection is over; the result is what `connection_lost` said. Wait for
        #: it with `asyncio.wait`, which leaves it alone when the waiting task is cancelled.
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._other: Half | None = None
        self._sink: asyncio.Transport | None = None  # the other half's transport, once joined
        self._kept: list[bytes] = []
        self._ended = False  # the peer has finished sending
        self._full = False  # the peer reads more slowly than it is written to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()
        if self._other is not None and self._other.transport is not None:
            join(self._other, self)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._kept.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        if self._sink is not None:
            self._pass_on_end(self._sink)
        return True  # the other direction stays open

    def pause_writing(self) -> None:
        self._full = True
        if self._sink is not None:
            self._sink.pause_reading()

    def resume_writing(self) -> None:
        self._full = False
        if self._sink is not None:
            self._sink.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)
        if self._sink is not None:
            if self._both_ended:
                self._sink.close()  # it was all said: let the other end flush, whatever became of this one
            else:
                abort(self._sink)

    def reset(self) -> None:
        """End the connection at once, if it was made and is not over yet."""
        if self.transport is not None:
            abort(self.transport)

    @property
    def _gone(self) -> bool:
        return self.transport is None or self.transport.is_closing() or self.lost.done()

    @property
    def _both_ended(self) -> bool:
        return self._ended and self._other is not None and self._other._ended

    def _pass_on_kept(self, sink: asyncio.Transport) -> None:
        if self._kept:
            sink.write(b"".join(self._kept))
            self._kept.clear()

    def _pass_on_end(self, sink: asyncio.Transport) -> None:
        if not sink.is_closing():
            sink.write_eof()
        if self._both_ended and self.transport is not None:
            sink.close()
            self.transport.close()


def pair() -> tuple[Half, Half]:
    """The two halves of a new relay. Give each to its transport as protocol; the second one joins them."""
    near, far = Half(), Half()
    near._other, far._other = far, near
    return near, far


def join(near: Half, far: Half) -> None:
    """Make a relay of two halves that both have their transport.

    Where one connection is over already, the other is reset.
    """
    near._other, far._other = far, near
    if near._gone or far._gone:
        near.reset()
        far.reset()
        return
    near._sink, far._sink = far.transport, near.transport
    ends = [(half, half._sink) for half in (near, far) if half._sink is not None]
    for half, sink in ends:
        half._pass_on_kept(sink)
    for half, sink in ends:
        if half._ended:
            half._pass_on_end(sink)
    for half, sink in ends:
        if not half._full:
            sink.resume_reading()


async def run(near: Half, far: Half) -> Exception | None:
    """Join two halves and wait until both connections are over; returns what ended the far one.

    Cancelled, it resets both.
    """
    join(near, far)
    try:
        await asyncio.wait((near.lost, far.lost))
        return far.lost.result()
    finally:
        near.reset()
        far.reset()


def abort(transport: asyncio.Transport) -> None:
    """End a connection so that the other side sees a reset, not an orderly end.

    A plain `transport.abort()` on a socket sends FIN when its buffers are empty, which a peer
    takes for the end of a complete answer.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
    transport.abort()
