"""Answers that go on: events, lines and WebSockets, to a bounded number of onlookers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

from toxproxy.web.answers import failure

MOST = 16
_INTERVAL = 1.0  # seconds between two answers
_SECONDS = 10.0  # that an onlooker has to take one
_ENDS = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)

Make = Callable[[], Awaitable[Sequence[str]]]  # what there is to say now


class Onlookers:
    """Says something to each onlooker once a second, until it hangs up or `close` is called.

    More than `MOST` are refused with 503. One that does not take an answer within 10 s is hung up on.
    """

    def __init__(self) -> None:
        self.count = 0
        self._closing = asyncio.Event()

    def close(self) -> None:
        """End all answers."""
        self._closing.set()

    async def lines(self, request: web.Request, make: Make, content_type: str) -> web.StreamResponse:
        """What `make` returns, a text at a time, in one endless body."""
        async with self._seat():
            response = web.StreamResponse(headers={"Content-Type": content_type})
            with contextlib.suppress(OSError):  # a timeout is one
                await response.prepare(request)
                while not self._closing.is_set():
                    texts = await make()
                    async with asyncio.timeout(_SECONDS):
                        await response.write("".join(texts).encode())
                    await self._pause()
            return response

    async def socket(self, request: web.Request, make: Make) -> web.StreamResponse:
        """What `make` returns, a message each, on a WebSocket. What comes on it is ignored."""
        async with self._seat():
            socket = web.WebSocketResponse(max_msg_size=1024, heartbeat=30.0)
            with contextlib.suppress(OSError):
                await socket.prepare(request)
                while not self._closing.is_set():
                    for text in await make():
                        async with asyncio.timeout(_SECONDS):
                            await socket.send_str(text)
                    if await _hung_up(socket):
                        break
                await socket.close()
            return socket

    @asynccontextmanager
    async def _seat(self) -> AsyncIterator[None]:
        if self.count >= MOST:
            raise failure(web.HTTPServiceUnavailable, "busy", f"{MOST} onlookers are connected: try later")
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_INTERVAL):
                await self._closing.wait()


async def _hung_up(socket: web.WebSocketResponse) -> bool:
    """Read for a second, and drop it. True if the other side ends the connection."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_INTERVAL):
            while True:
                if (await socket.receive()).type in _ENDS:
                    return True
    return False
