"""A flow of datagrams for a coroutine that sends and receives."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Self

from toxproxy.address import UdpTarget
from toxproxy.dialer import Flow, FlowDialer
from toxproxy.errors import Refusal, ResetCode, StreamError, StreamRefused, StreamReset

_KEPT = 256  # datagrams that wait for `receive`; the oldest give way
_MOST_BYTES = 1 << 20  # that they have


class DatagramEndpoint:
    """Datagrams to one target and from it. They may get lost, come late, and come in another order.

    An asynchronous context manager: leaving it closes it. Made by `Client.open_datagram`.
    """

    def __init__(self) -> None:
        self.dropped = 0  # datagrams that came, and that nobody received in time
        self._flow: Flow | None = None
        self._kept: deque[bytes] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()
        self._error: StreamError | None = None

    async def open(self, dialer: FlowDialer, target: UdpTarget) -> None:
        """Open the flow, and wait until the far end has found the target. Raises `StreamRefused`."""
        self._flow = dialer.open_flow(self, target)
        try:
            await self._changed.wait()
        except BaseException:
            self.close()
            raise
        if isinstance(self._error, StreamRefused):
            raise self._error
        if self._error is not None:
            raise StreamRefused(Refusal.FAILED, f"the flow was lost: {self._error}") from self._error

    def send(self, data: bytes) -> None:
        """Send a datagram, 65,507 bytes at most (65,527 to IPv6); `ValueError` beyond 65,535.

        Raises `StreamReset` where the flow has ended.
        """
        if len(data) > 0xFFFF:
            raise ValueError(f"expected a datagram of 65535 bytes at most, found {len(data)}")
        if self._flow is None:
            raise self._ended()
        self._flow.send(data)

    async def receive(self) -> bytes:
        """The next datagram. Raises `StreamReset` where the flow has ended and all were received."""
        while not self._kept:
            if self._flow is None:
                raise self._ended()
            self._changed.clear()
            await self._changed.wait()
        data = self._kept.popleft()
        self._bytes -= len(data)
        return data

    def close(self) -> None:
        """End the flow. What came and was not received is dropped."""
        self._kept.clear()
        self._bytes = 0
        if self._flow is not None:
            flow, self._flow = self._flow, None
            flow.close()
        self._changed.set()

    abort = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def _ended(self) -> StreamError:
        if isinstance(self._error, StreamReset):
            return StreamReset(self._error.code)
        return StreamReset(ResetCode.CANCELLED, "the flow has ended")

    # FlowOwner

    def flow_opened(self) -> None:
        self._changed.set()

    def datagram_received(self, data: bytes) -> None:
        self._kept.append(data)
        self._bytes += len(data)
        while len(self._kept) > _KEPT or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._kept.popleft())
            self.dropped += 1
        self._changed.set()

    def flow_ended(self, error: StreamError | None) -> None:
        self._flow = None
        self._error = error or StreamReset(ResetCode.CANCELLED)
        self._changed.set()
