"""Joins two connections into one, at either end of the tunnel.

A relay is a pair of `Half` protocols, one on each transport. Each event of one transport becomes a
call of the other one: a full write buffer pauses reading, EOF becomes a half-close, and a reset
becomes a reset. The transports do the buffering, and `close` flushes, so nothing is cut short. A
`Watch` resets a relay that is silent for longer than its `Patience`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from time import monotonic
from typing import Self, cast

from toxproxy.pace import Notice
from toxproxy.patience import Patience
from toxproxy.system.sockets import reset_when_closed, unsent

log = logging.getLogger(__name__)

FOR_EVER = Patience(idle=0.0, half_closed=0.0)

_silent = Notice(log)  # of halves that were given none
_READ = 256 * 1024  # bytes read at once, at most …
_LEAST_READ = 4096  # … and if the other side has no room


class _ReadBuffer(threading.local):
    """One buffer for all connections of a thread's event loop. What was read is copied out at once."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ))


_buffer = _ReadBuffer()


class Half(asyncio.BufferedProtocol):
    """One end of a relay. `pair` makes two; one that was made alone is given to `join` later.

    It is a `BufferedProtocol`, so that no more is read from a socket than the other side has room for.

    Reading is paused until the halves are joined. Bytes that still arrive before that are kept and
    passed on first.

    `patience` is how long the relay may be silent. The reset of one that was silent for too long is
    logged with `silent`. A relay uses both from its near half.
    """

    __slots__ = (
        "_ended", "_full", "_kept", "_other", "_sink", "_watch",
        "heard", "lost", "patience", "silenced", "silent", "transport",
    )  # fmt: skip

    def __init__(self, patience: Patience = FOR_EVER, silent: Notice | None = None) -> None:
        self.patience = patience
        self.silent = silent or _silent
        self.silenced = False  # reset since it was silent for too long
        self.heard = monotonic()  # when something last came from the peer, by `monotonic`
        self.transport: asyncio.Transport | None = None
        #: Done when the connection has ended; the result is the argument of `connection_lost`. Wait for
        #: it with `asyncio.wait`, which does not cancel it when the waiting task is cancelled.
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._other: Half | None = None
        self._sink: asyncio.Transport | None = None  # the other half's transport, after `join`
        self._watch: Watch | None = None
        self._kept: list[bytes] = []
        self._ended = False  # the peer has finished sending
        self._full = False  # the peer reads more slowly than it is written to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()
        if self._other is not None and self._other.transport is not None:
            join(self._other, self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer.view[: max(_LEAST_READ, self._room())]

    def _room(self) -> int:
        """How many bytes may be read now."""
        room: int = self._sink.get_extra_info("room", _READ) if self._sink is not None else _READ
        return room

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(_buffer.view[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """Bytes came: pass them on, or keep them until the halves are joined."""
        self.heard = monotonic()
        if self._sink is not None:
            self._sink.write(data)
        else:
            self._kept.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        self.heard = monotonic()
        if self._watch is not None:
            self._watch.look()
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
                self._sink.close()  # all bytes are passed on: flush, even if this connection was reset
            else:
                abort(self._sink)
        if self._watch is not None:
            self._watch.look()

    def reset(self) -> None:
        """Reset the connection, if there is one; see `abort`."""
        if self.transport is not None:
            abort(self.transport)

    @property
    def other(self) -> Half | None:
        """The other half of the relay, if there is one."""
        return self._other

    @property
    def complete(self) -> bool:
        """Whether both directions of the relay have ended in order."""
        return self._both_ended

    @property
    def outflow(self) -> tuple[object, ...]:
        """Values that change as long as the peer takes bytes that were written to it.

        They are the size of the transport's buffer, and of the system's buffer or a stream's credit.
        """
        if self.transport is None or self.lost.done():
            return ()
        behind = self.transport.get_extra_info("credit")
        if (sock := self.transport.get_extra_info("socket")) is not None:
            with suppress(OSError, ValueError):  # it is being closed
                behind = unsent(sock)
        return self.transport.get_write_buffer_size(), behind

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
            with suppress(OSError):  # it was reset; asyncio calls `connection_lost`
                sink.write_eof()
        if self._both_ended and self.transport is not None:
            sink.close()
            self.transport.close()


class Watch:
    """Resets two halves, joined or not, when both have been silent for too long.

    A relay is not silent while bytes come, or while bytes that were written are being taken. There is
    one timer. It is not reset when bytes come: when it expires, it checks how long ago that was.

    For halves that are not joined, use it as a context manager. `join` makes one that ends with the
    connections.
    """

    __slots__ = ("_halves", "_moved", "_outflow", "_patience", "_silent", "_timer")

    def __init__(self, near: Half, far: Half) -> None:
        self._halves = near, far
        self._patience = near.patience
        self._silent = near.silent
        self._timer: asyncio.TimerHandle | None = None
        self._outflow: list[tuple[object, ...]] = []
        self._moved = monotonic()  # when `_outflow` last changed, by `monotonic`
        near._watch = far._watch = self
        self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for half in self._halves:
            half._watch = None
        self._stop()

    def look(self) -> None:
        """Reset both if they were silent for too long; otherwise set the timer.

        It is also called when a direction or a connection has ended, since the limit depends on that.
        """
        self._stop()
        seconds, key = self._limit()
        if not seconds or all(half.lost.done() for half in self._halves):
            return
        outflow = [half.outflow for half in self._halves]
        if outflow != self._outflow:
            self._outflow, self._moved = outflow, monotonic()
        left = max(self._moved, *(half.heard for half in self._halves)) + seconds - monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self.look)
            return
        self._silent("a connection was reset: no byte came for %g s ([limits] %s)", seconds, key)
        for half in self._halves:
            half.silenced = True
            half.reset()

    def _limit(self) -> tuple[float, str]:
        limits = [(self._patience.idle, "idle")]
        if any(half._ended for half in self._halves):
            limits.append((self._patience.half_closed, "half_closed"))
        return min((limit for limit in limits if limit[0]), default=(0.0, ""))

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Halves:
    """The connections made for a peer, until they have ended.

    A connection may outlive its stream, while a slow reader still takes bytes. To stop the program, wait
    with `idle`, then call `reset`. If the exit of the process closed the rest, they would send FIN, and
    their readers would take incomplete data for complete.
    """

    def __init__(self) -> None:
        self._open: set[Half] = set()
        self._over = asyncio.Event()

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._open)

    def add(self, half: Half) -> None:
        """Add a connection until it has ended."""
        self._open.add(half)
        half.lost.add_done_callback(lambda _: self._remove(half))

    async def idle(self) -> None:
        """Wait until all have ended."""
        while self._open:
            self._over.clear()
            await self._over.wait()

    def reset(self) -> None:
        """Reset all that are left."""
        for half in list(self._open):
            half.reset()

    def _remove(self, half: Half) -> None:
        self._open.discard(half)
        self._over.set()


def pair(patience: Patience = FOR_EVER, silent: Notice | None = None) -> tuple[Half, Half]:
    """A new relay: give each half to its transport as protocol. The second one to connect joins them."""
    near, far = Half(patience, silent), Half(patience, silent)
    near._other, far._other = far, near
    return near, far


def join(near: Half, far: Half) -> None:
    """Make a relay of two halves that both have a transport.

    If one connection has ended already, the other is reset.
    """
    near._other, far._other = far, near
    if near._gone or far._gone:
        near.reset()
        far.reset()
        return
    near._sink, far._sink = far.transport, near.transport
    ends = [(half, half._sink) for half in (near, far) if half._sink is not None]
    for half, sink in ends:
        if half.transport is not None and (share := sink.get_extra_info("share")) is not None:
            half.transport.set_write_buffer_limits(share)
    for half, sink in ends:
        half._pass_on_kept(sink)
    for half, sink in ends:
        if half._ended:
            half._pass_on_end(sink)
    for half, sink in ends:
        if not half._full:
            sink.resume_reading()
    Watch(near, far)


async def run(near: Half, far: Half) -> Exception | None:
    """Join two halves, and wait until both connections have ended.

    Returns the exception that ended the far one, or None. If cancelled, resets both.
    """
    join(near, far)
    try:
        await asyncio.wait((near.lost, far.lost))
        return far.lost.result()
    finally:
        near.reset()
        far.reset()


def abort(transport: asyncio.Transport) -> None:
    """End a connection so that the peer sees a reset (RST) instead of an orderly end (FIN).

    `transport.abort()` alone sends FIN, which means that the data is complete. If the transport is
    closing and has given all its bytes to the system, the data is complete, and FIN is right.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and (not transport.is_closing() or transport.get_write_buffer_size()):
        with suppress(OSError, ValueError):  # it is closed already
            reset_when_closed(sock)
    transport.abort()
