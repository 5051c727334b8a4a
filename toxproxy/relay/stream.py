"""A connection that a coroutine reads and writes, until it is joined into a relay.

Listeners greet their clients through it: a handshake reads a few messages, writes its answer
and then hands the connection over with `relay.run`; nothing that was read too much is lost,
for `unread` puts it back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

from toxproxy.patience import Patience
from toxproxy.relay.half import FOR_EVER, Half

KEEP_BYTES = 65536  # reading pauses while this much was received and not read
LINGER_SECONDS = 2.0
STALL_SECONDS = 60.0  # without a byte taken, after which a peer reads no more


class ByteStream(Half):
    """One end of a TCP connection or of a stream, for one reading and one writing coroutine."""

    __slots__ = ("_kept_bytes", "_readable", "_writable", "hung_up")

    def __init__(self, patience: Patience = FOR_EVER) -> None:
        super().__init__(patience)
        #: Done when the peer ended its direction or the connection is over.
        self.hung_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
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
        """Whether the connection is open both ways and nothing waits to be read."""
        return not self._kept and not self.hung_up.done()

    async def read(self) -> bytes:
        """What was received since the last call, at least one byte; empty at the end of the stream.

        Raises `ConnectionError` where the connection was lost before its end.
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
        """Put back what was read too much."""
        if data:
            self._kept.insert(0, data)
            self._kept_bytes += len(data)
            self._readable.set()

    async def write(self, data: bytes) -> None:
        """Send, and wait for room for more. Raises `ConnectionError` where the connection is over."""
        if self.transport is None or self.transport.is_closing():
            self._raise_lost()
        else:
            self.transport.write(data)
            await self._writable.wait()

    async def finish(self) -> None:
        """Close in order: send what is left, then the end, then give the peer a moment to end too.

        Without that moment, bytes of the peer that nobody reads would turn the answer into a
        reset (RFC 9112, section 9.6). A peer that stops reading is reset after `STALL_SECONDS`.
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
        """Say that this was all, and read and drop what still comes: until the peer ends, too.

        That is for `seconds` at most, and ends as soon as nothing came for `silence` of them.
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
        """Wait for the write buffer to be empty; false where nothing moves any more."""
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
