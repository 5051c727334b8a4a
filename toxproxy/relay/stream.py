"""A connection that a coroutine reads and writes, until it is joined into a relay.

Listeners use it for the handshake with a client: they read some messages, write the answer, then
call `relay.run`. `unread` puts back bytes that belong to what comes after the handshake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from toxproxy.pace import Notice
from toxproxy.patience import Patience
from toxproxy.relay.half import FOR_EVER, Half

KEEP_BYTES = 65536  # reading from the socket pauses while so many bytes were not read
LINGER_SECONDS = 2.0  # how long `finish` waits for the peer's end
STALL_SECONDS = 60.0  # without a byte taken, after which `finish` resets the connection


class ByteStream(Half):
    """A TCP connection or a stream, for one coroutine that reads and one that writes."""

    __slots__ = ("_kept_bytes", "_readable", "_writable", "carried", "hung_up")

    def __init__(self, patience: Patience = FOR_EVER, silent: Notice | None = None) -> None:
        super().__init__(patience, silent)
        #: Done when the peer has ended its direction, or the connection has ended.
        self.hung_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        #: Bytes that came and that were written, as long as it is in no relay.
        self.carried = 0, 0
        self._kept_bytes = 0
        self._readable = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._sink is None:
            self._kept_bytes += len(data)
            self.carried = self.carried[0] + len(data), self.carried[1]
            self._readable.set()
            if self._kept_bytes >= KEEP_BYTES and self.transport is not None:
                self.transport.pause_reading()

    def _room(self) -> int:
        return KEEP_BYTES - self._kept_bytes if self._sink is None else super()._room()

    def eof_received(self) -> bool:
        self._hang_up()
        return super().eof_received()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._writable.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._hang_up()
        self._writable.set()

    def _hang_up(self) -> None:
        self._readable.set()
        if not self.hung_up.done():
            self.hung_up.set_result(None)

    @property
    def idle(self) -> bool:
        """Whether both directions are open and nothing waits to be read."""
        return not self._kept and not self.hung_up.done()

    async def read(self) -> bytes:
        """Wait for bytes; returns all that were received since the last call. Empty at the end.

        Raises `ConnectionError` if the connection was lost before its end.
        """
        await self._readable.wait()
        data = b"".join(self._kept)
        self._kept.clear()
        self._kept_bytes = 0
        if not self.hung_up.done():
            self._readable.clear()
            if self.transport is not None:
                self.transport.resume_reading()
        elif not data and not self._ended:
            self._raise_lost()
        return data

    def unread(self, data: bytes) -> None:
        """Put back bytes for the next `read`, or for the relay."""
        if data:
            self._kept.insert(0, data)
            self._kept_bytes += len(data)
            self._readable.set()

    async def write(self, data: bytes) -> None:
        """Send, and wait for room for more. Raises `ConnectionError` if the connection has ended."""
        if self.transport is None or self.transport.is_closing():
            self._raise_lost()
        else:
            self.transport.write(data)
            self.carried = self.carried[0], self.carried[1] + len(data)
            await self._writable.wait()

    async def finish(self) -> None:
        """Close in order: send what is left, then FIN, then wait `LINGER_SECONDS` for the peer's end.

        Without that wait, bytes from the peer that nobody has read would cause a reset, and the peer could
        lose the answer (RFC 9112, section 9.6). If the peer takes no byte for `STALL_SECONDS`, the
        connection is reset.
        """
        if self.transport is None or self.transport.is_closing():
            return
        self.transport.set_write_buffer_limits(0)
        if not await self._all_taken():
            self.reset()
            return
        self.transport.write_eof()
        with suppress(TimeoutError, ConnectionError):
            async with asyncio.timeout(LINGER_SECONDS):
                while await self.read():
                    pass
        self.transport.close()

    async def discard(self, seconds: float, silence: float) -> None:
        """Send FIN, then read and drop what still comes, until the peer ends its direction.

        It takes `seconds` at most, and stops early if nothing comes for `silence` seconds.
        """
        if self.transport is None or self.transport.is_closing():
            return
        with suppress(TimeoutError, OSError):
            self.transport.write_eof()
            async with asyncio.timeout(seconds):
                while await self._read_within(silence):
                    pass

    async def _read_within(self, seconds: float) -> bytes:
        async with asyncio.timeout(seconds):
            return await self.read()

    async def _all_taken(self) -> bool:
        """Wait until the write buffer is empty; False if the peer has stopped taking bytes."""
        while not self._writable.is_set():
            before = self.outflow
            with suppress(TimeoutError):
                async with asyncio.timeout(STALL_SECONDS):
                    await self._writable.wait()
            if not self._writable.is_set() and self.outflow == before:
                return False
        return True

    def _raise_lost(self) -> None:
        cause = self.lost.result() if self.lost.done() else None
        raise ConnectionResetError(str(cause or "the connection is closed")) from cause


@contextmanager
def cancelled_when(future: asyncio.Future[None] | asyncio.Future[Exception | None]) -> Iterator[None]:
    """Cancel the current task as soon as `future` is done inside the block."""
    task = cast("asyncio.Task[object]", asyncio.current_task())

    def cancel(_: object) -> None:
        task.cancel()

    future.add_done_callback(cancel)
    try:
        yield
    finally:
        future.remove_done_callback(cancel)
