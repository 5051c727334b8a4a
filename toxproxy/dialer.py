"""The interface through which a listener opens connections at the far end of the tunnel.

Listeners use a `Dialer` and never a session, so that they can run and be tested without Tox. `dial`
is like `asyncio.loop.create_connection`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar, cast

from toxproxy.address import Target, UdpTarget
from toxproxy.errors import StreamError

AnyProtocol = asyncio.Protocol | asyncio.BufferedProtocol
P = TypeVar("P", bound=AnyProtocol)


def feed(protocol: AnyProtocol, data: bytes) -> None:
    """Pass received bytes to a protocol, be it an `asyncio.Protocol` or a `BufferedProtocol`.

    `data_received` is preferred if the protocol has it, since that needs no copy.
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

        The transport keeps asyncio's contract. `write` never blocks, and calls the protocol's
        `pause_writing` above the high-water mark. `pause_reading` stops the peer by flow control.
        `write_eof` ends one direction. `close` flushes first; `abort` resets. After `connection_made`,
        `connection_lost(exc)` is called exactly once; `exc` is None if both directions ended in order.

        With `early` the call returns as soon as the stream can be written to, before the far end has
        answered. A refusal then arrives as `connection_lost(StreamRefused)`. Without `early` the call
        waits for the answer.

        With `compress` the bytes may be compressed in the tunnel, where that pays.

        If the server is not connected, the call waits for it up to the configured limit.

        Raises `StreamRefused`.
        """
        ...


class FlowOwner(Protocol):
    """Is told what happens to a flow of datagrams; never from within a call of its own to the flow."""

    def flow_opened(self) -> None:
        """The far end has found the target."""
        ...

    def datagram_received(self, data: bytes) -> None:
        """A datagram of the target came, whole."""
        ...

    def flow_ended(self, error: StreamError | None) -> None:
        """The flow has ended: refused, reset, or since nothing came for long (None). The last call."""
        ...


class Flow(Protocol):
    """Datagrams to one target, and those that it answers. Nothing waits, and nothing is sent again."""

    def send(self, data: bytes) -> None:
        """Send a datagram. It may get lost; one that is longer than the target's network takes is dropped."""
        ...

    def close(self, error: StreamError | None = None) -> None:
        """End it, in order or for this reason. The owner is not told."""
        ...


class FlowDialer(Protocol):
    """Opens flows at the far end."""

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        """A flow to `target`. Datagrams may be sent at once. A refusal comes as the end of the flow.

        Raises `StreamRefused` where the far end cannot even be asked, for example if it is not connected.
        """
        ...


class Way(Dialer, FlowDialer, Protocol):
    """Opens both."""
