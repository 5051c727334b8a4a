"""Where the streams of a server lead at this client: to one target, or through a proxy port's rules."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from toxproxy.address import Target, UdpTarget
from toxproxy.audit.record import End, Record
from toxproxy.config.settings import DEFAULT, LimitSettings, ProxyPort
from toxproxy.dialer import Flow, FlowOwner
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.mux.stream import StreamState
from toxproxy.outbound.audited import AuditedExit
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.relay.stream import ByteStream
from toxproxy.rules import Rules
from toxproxy.socks import ProxyListener
from toxproxy.tunnel.flow import AnsweredFlow
from toxproxy.tunnel.transport import StreamTransport


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What doors need of the client: the server `key` and its name, where records go, the limits."""

    key: bytes
    name: Callable[[bytes], str | None]
    write: Callable[[Record], None]
    limits: Callable[[], LimitSettings]


class Door(ABC):
    """Serves the streams that a server opens for one of its listeners. It outlives sessions."""

    def __init__(self) -> None:
        self.accepted = self.refused = 0  # streams and flows; those of them that were not opened

    @property
    @abstractmethod
    def connections(self) -> int:
        """How many have not ended."""

    @abstractmethod
    async def serve(self, transport: StreamTransport) -> None:
        """Answer a stream. Cancelled when the stream has ended."""

    def open_flow(self, owner: FlowOwner) -> Flow:
        """Open a flow. Raises `StreamRefused`."""
        raise StreamRefused(Refusal.UNSUPPORTED, "no datagrams go here")

    def change(self, limits: LimitSettings) -> None:  # noqa: B027
        """Use other limits for new connections."""

    @abstractmethod
    async def idle(self) -> None:
        """Wait until all connections have ended."""

    @abstractmethod
    def reset(self) -> None:
        """Reset those that are left."""


class _Outward(Exit):
    """From this machine, whatever [exit] says for the clients of a server."""

    async def dial(self, *arguments: Any, **more: Any) -> Any:
        """As `Exit.dial`."""
        try:
            return await super().dial(*arguments, **more)
        except StreamRefused as refused:
            if refused.code is not Refusal.NOT_PERMITTED:
                raise
            raise StreamRefused(refused.code, "not permitted (at the client: [reverse] permit)") from None


def _exit(around: Surroundings, rules: Rules, write: Callable[[Record], None]) -> AuditedExit:
    exit = _Outward(DEFAULT.exit, rules, around.limits().dials)
    return AuditedExit(
        exit, around.key, name=around.name, write=lambda record: write(replace(record, peer="server"))
    )


class TargetDoor(Door):
    """Leads to `target` and nowhere else."""

    def __init__(self, around: Surroundings, target: Target, rules: Rules) -> None:
        super().__init__()
        self._around = around
        self._target = target
        self._serving = Serving(_exit(around, rules, self._ended), patience=lambda: around.limits().patience)

    @property
    def connections(self) -> int:
        return self._serving.connections

    async def serve(self, transport: StreamTransport) -> None:
        if isinstance(self._target, UdpTarget):
            transport.refuse(Refusal.UNSUPPORTED, "only datagrams go here")
            return
        self.accepted += 1
        transport.target = self._target
        await self._serving.serve(transport, self._target)

    def open_flow(self, owner: FlowOwner) -> Flow:
        if not isinstance(self._target, UdpTarget):
            return super().open_flow(owner)
        self.accepted += 1
        if isinstance(owner, AnsweredFlow):
            owner.target = self._target
        return self._serving.open_flow(owner, self._target)

    def _ended(self, record: Record) -> None:
        self.refused += record.end is End.REFUSED
        self._around.write(record)

    async def idle(self) -> None:
        await self._serving.idle()

    def reset(self) -> None:
        self._serving.reset()


class ProxyDoor(Door):
    """Speaks SOCKS and HTTP with whoever connected to the server, and connects from here."""

    def __init__(self, around: Surroundings, port: ProxyPort, rules: Rules) -> None:
        super().__init__()
        self._limits = around.limits
        self._listener = ProxyListener(port, _exit(around, rules, around.write), around.limits())

    @property
    def connections(self) -> int:
        return self._listener.connections

    async def serve(self, transport: StreamTransport) -> None:
        limits = self._limits()
        if self._listener.connections >= limits.connections:
            self.refused += 1
            text = f"{limits.connections} connections are open ([limits] connections)"
            transport.refuse(Refusal.TOO_MANY_STREAMS, text)
            return

        async def join(client: ByteStream) -> None:
            if not transport.accept(client):
                raise ConnectionResetError("the stream has ended")

        self._listener.begin(join)
        self.accepted = self._listener.accepted

    def change(self, limits: LimitSettings) -> None:
        self._listener.change(limits, compress=True)

    async def idle(self) -> None:
        await self._listener.drain(None)

    def reset(self) -> None:
        self._listener.reset()


class CallbackDoor(Door):
    """Gives each connection to a program, as `asyncio.start_server` does."""

    def __init__(self, callback: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> None:
        super().__init__()
        self._callback = callback
        self._open: set[StreamTransport] = set()

    @property
    def connections(self) -> int:
        self._open = {each for each in self._open if each.stream.state is not StreamState.CLOSED}
        return len(self._open)

    async def serve(self, transport: StreamTransport) -> None:
        self.accepted += 1
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        if transport.accept(asyncio.StreamReaderProtocol(reader, self._callback, loop=loop)):
            self._open.add(transport)

    async def idle(self) -> None:
        """The streams are all that there is of the connections, and the session waits for those."""

    def reset(self) -> None:
        for each in self._open:
            each.abort()
