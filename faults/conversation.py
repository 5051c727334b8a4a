"""What one end of a stream does, over any pair of asyncio streams."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, cast

from faults.content import Content, Receipt
from faults.ledger import Account, End
from faults.plan import Kind, Plan, Side, Stream
from toxproxy import relay

_READ = 1 << 16  # bytes


class _Enough(Exception):
    """The plan says that this side resets the stream now."""


async def converse(
    plan: Plan, stream: Stream, side: Side, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Account:
    """Do what the plan says, within the time bound of the stream. Then close or reset the connection."""
    part = _Part(plan, stream, side, reader, writer)
    end, why = End.LATE, ""
    try:
        async with asyncio.timeout(plan.bound(stream)):
            await part.play()
            end = End.WHOLE
    except _Enough:
        end = End.CUT
    except TimeoutError as error:
        why = str(error)
    except ConnectionError as error:
        end, why = End.RESET, str(error)
    finally:
        if end is not End.WHOLE:
            relay.abort(cast(asyncio.Transport, writer.transport))
    return Account(stream.number, side, end, part.receipt.got, part.receipt.wrong_at, why)


class _Part:
    """The part of one side."""

    def __init__(
        self,
        plan: Plan,
        stream: Stream,
        side: Side,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.receipt = Receipt(Content.of(plan, stream, side.other))
        self._content = Content.of(plan, stream, side)
        self._stream = stream
        self._side = side
        self._reader = reader
        self._writer = writer

    async def play(self) -> None:
        """Play the part until the connection is closed. Raises `ConnectionError` or `_Enough`."""
        first = {Kind.NEAR_FIRST: Side.NEAR, Kind.FAR_FIRST: Side.FAR}.get(self._stream.kind)
        if first is None:
            await _both(self._send(), self._receive())
        elif first is self._side:
            await self._send()
            await self._receive()
        else:
            await self._receive()
            await self._send()
        self._writer.close()
        await self._writer.wait_closed()

    async def _send(self) -> None:
        for piece in self._content.pieces():
            self._writer.write(piece)
            await self._writer.drain()
        self._writer.write_eof()

    async def _receive(self) -> None:
        stream, acts = self._stream, self._stream.actor is self._side
        while data := await self._reader.read(_READ):
            self.receipt.take(data)
            if acts and self.receipt.got >= stream.after:
                if stream.kind is Kind.RESET:
                    raise _Enough
                await asyncio.sleep(stream.pause)
                acts = False


async def _both(sending: Coroutine[Any, Any, None], receiving: Coroutine[Any, Any, None]) -> None:
    """Send and receive at the same time. An error while receiving cancels the sending."""
    task = asyncio.create_task(sending)
    try:
        await receiving
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await task
