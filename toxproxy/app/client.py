"""The near end: listens, and dials through its servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

from toxproxy.address import Target, ToxId, parse_host
from toxproxy.admission.access import request_message
from toxproxy.app.end import DRAIN, NICKNAME, End, Listening, how, waiting
from toxproxy.config.settings import Config, Forward
from toxproxy.dialer import Dialer
from toxproxy.errors import ConfigError
from toxproxy.forward import ForwardListener
from toxproxy.socks import ProxyListener
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tunnel.friend import Friend, Phase, short


class Client(End):
    """The near end: listens, and dials through its servers.

    `state` is a folder, or its path, for this client's identity. `changed` is called whenever
    `statuses` would say something new. Entering the context starts the node and opens the listeners
    of the configuration; leaving it resets what is open. See `End` for the errors.
    """

    def __init__(
        self,
        config: Config,
        state: StateFolder | str | os.PathLike[str],
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config, state, NICKNAME)
        self._changed = changed
        self._servers: dict[bytes, Friend] = {}
        self._listeners: list[tuple[str, str, ForwardListener | ProxyListener]] = []
        self._listening = contextlib.AsyncExitStack()

    async def _start(self) -> None:
        messages = {server: request_message(self.config.secret_for(server)) for server in self.config.servers}
        await self._start_node()
        wanted = {server.public_key for server in self.config.servers}
        for key in self.node.friends.keys() - wanted:
            self.node.remove_friend(key)
        for server, message in messages.items():
            self._add(server, message)
        await self._resources.enter_async_context(self._listening)
        limits = self.config.limits
        for entry in self.config.listeners:
            compress = entry.name not in self.config.uncompressed
            dialer = self._servers[entry.server.public_key]
            listener: ForwardListener | ProxyListener
            if isinstance(entry, Forward):
                kind, listener = "forward", ForwardListener(entry, dialer, limits, compress=compress)
            else:
                kind, listener = "socks", ProxyListener(entry, dialer, limits, compress=compress)
            await listener.start()
            self._listening.push_async_callback(listener.drain)
            self._listening.push_async_callback(listener.close)
            self._listeners.append((entry.name, kind, listener))

    def _add(self, server: ToxId, message: bytes) -> None:
        number = self.node.add_friend(server, message)
        friend = Friend(
            self.node,
            number,
            server.public_key,
            changed=lambda _: self._changed(),
            wait=self.config.tox.wait,
            limits=self._limits,
            grace=self.config.tox.grace,
        )
        self._friends[number] = self._servers[server.public_key] = friend

    @property
    def connections(self) -> int:
        """How many connections `drain` would wait for, those included that wait for a server."""
        return max(super().connections, sum(listener.connections for _, _, listener in self._listeners))

    async def drain(self) -> None:
        """Stop listening, then let the connections and streams end, for at most `DRAIN` seconds."""
        listeners = [listener for _, _, listener in self._listeners]
        for listener in listeners:
            await listener.close()
        await asyncio.gather(super().drain(), *(listener.drain(DRAIN) for listener in listeners))

    def listening(self) -> Iterator[Listening]:
        for name, kind, listener in self._listeners:
            for address in listener.addresses:
                yield Listening(name, kind, address)

    def connection_changed(self, connection: ConnectionStatus) -> None:
        super().connection_changed(connection)
        self._changed()

    def dialer(self, server: ToxId | None = None) -> Dialer:
        """The way through `server`, or through the only one of the configuration.

        Raises `ConfigError` where that does not say which server.
        """
        key = self._only_server() if server is None else server.public_key
        if key not in self._servers:
            raise ConfigError(
                f"the server {short(key)} is not in the configuration, or the client did not start"
            )
        return self._servers[key]

    def _only_server(self) -> bytes:
        servers = self.config.servers
        if len(servers) == 1:
            return servers[0].public_key
        if not servers:
            raise ConfigError("the configuration names no server: add a forward or a proxy port")
        names = ", ".join(map(str, servers))
        raise ConfigError(f"the configuration names {len(servers)} servers: choose one with server=: {names}")

    async def open_connection(
        self, host: str, port: int, *, server: ToxId | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As `asyncio.open_connection`, from the server's side.

        Waits for the server as long as the configuration says. Raises `StreamRefused`; `ValueError`
        for a host or a port that cannot be; `ConfigError` where `server` does not say which.
        """
        target = Target(parse_host(host), port)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        transport, protocol = await self.dialer(server).dial(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), target
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def statuses(self) -> list[tuple[Phase, str]]:
        """How far the way to each server is, a sentence each."""
        return [(friend.phase, self._status(friend)) for friend in self._servers.values()]

    def _status(self, friend: Friend) -> str:
        who = "the server" if len(self._servers) == 1 else f"server {short(friend.key)}"
        if friend.phase is Phase.READY:
            trip = f", {friend.round_trip * 1000:.0f} ms" if friend.round_trip is not None else ""
            return f"connected to {who}, {how(friend.connection)}{trip}"
        if friend.met and friend.streams:
            return f"{who} is away; {waiting(friend.streams)} for it"
        if friend.phase is Phase.LINKING:
            return f"{who} found; connecting"
        if self.node.connection is ConnectionStatus.NONE:
            return "looking for the Tox network"
        if friend.met:
            return f"{who} is gone; looking for it"
        return f"network found; asking {who}, waiting to be allowed"
