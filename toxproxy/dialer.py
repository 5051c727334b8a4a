"""The one thing a listener needs to know about the tunnel: how to have a connection opened.

Listeners (`forward`, `socks`) take a `Dialer` and never see a session, so that they run and
are tested without Tox. The call has the shape of `asyncio.loop.create_connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from toxproxy.address import Target

AnyProtocol = asyncio.Protocol | asyncio.BufferedProtocol
P = TypeVar("P", bound=AnyProtocol)


def feed(protocol: AnyProtocol, data: bytes) -> None:
    """Give a protocol of either of asyncio's kinds bytes that were received.

    One that is both takes them as they are.
    """
    if (receive := getattr(protocol, "data_received", None)) is not None:
        receive(data)
        return
    buffered = cast(asyncio.BufferedProtocol, protocol)
    rest = memoryview(data)
    while rest:
        buffer = memoryview(buffered.get_buffer(len(rest)))
        size = min(len(buffer), len(rest))
        buffer[:size] = rest[:size]
        buffered.buffer_updated(size)
        rest = rest[size:]


class Dialer(Protocol):
    """Opens connections at the far end."""

    async def dial(
        self,
        protocol_factory: Callable[[], P],
        target: Target,
        *,
        early: bool = False,
        compress: bool = True,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to `target` at the far end and return (transport, protocol).

        The transport keeps asyncio's contract: `write` never blocks and calls the protocol's
        `pause_writing` above its high-water mark, `pause_reading` stops the peer by flow
        control, `write_eof` ends one direction (`can_write_eof()` is true), `close` flushes
        first, `abort` resets, `connection_lost(exc)` comes exactly once after
        `connection_made`; its `exc` is None after both directions ended in order.

        With `early` the call returns as soon as the stream may be written to, before the far
        end answered; a refusal then arrives as `connection_lost(StreamRefused)`. Without it
        the call waits for the far end's answer and raises.

        With `compress` what goes through the tunnel may be compressed, as far as that pays.

        Where the server is not connected yet, the call waits for it up to the configured limit.

        Raises `StreamRefused`.
        """
        ...
