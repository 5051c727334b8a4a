"""What is done with the streams that the peer opens."""

from __future__ import annotations

from toxproxy.address import Target, UdpTarget
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.tunnel.meter import Meter
from toxproxy.tunnel.transport import StreamTransport

_NOTHING = "a client opens no connections for its server"


class Host:
    """Serves the streams that one peer opens, in all of its sessions. By itself it refuses them.

    `meter` bounds what is carried for the peer, and by whom a stream was opened does not matter. By itself
    it bounds nothing.
    """

    meter = Meter()

    @property
    def connections(self) -> int:
        """How many connections that were made for the peer have not ended."""
        return 0

    async def serve(self, transport: StreamTransport, target: Target) -> None:
        """Answer the peer's request for a stream to `target`. Cancelled when the stream has ended."""
        transport.refuse(Refusal.UNSUPPORTED, _NOTHING)

    def open_flow(self, owner: FlowOwner, target: UdpTarget) -> Flow:
        """Open the flow that the peer asks for; see `FlowDialer`. Raises `StreamRefused`."""
        raise StreamRefused(Refusal.UNSUPPORTED, _NOTHING)

    def turned_away(self, target: Target) -> None:
        """The peer opened more streams than it may: this one was refused."""

    async def idle(self) -> None:
        """Wait until all connections have ended. They may outlive their session."""

    def reset(self) -> None:
        """Reset the connections that are left."""
