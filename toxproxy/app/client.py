"""The near end: listens, and dials through its servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator

from toxproxy.address import Target, ToxId, parse_host
from toxproxy.admission.access import request_message
from toxproxy.app.end import DRAIN, NICKNAME, End, Listening
from toxproxy.app.known import KnownServers
from toxproxy.app.observer import Observer
from toxproxy.app.speedtest import Speedtest
from toxproxy.config.settings import Config, Forward, ProxyPort
from toxproxy.control.snapshots import EndRole, ListenerKind, ListenerSnapshot
from toxproxy.dialer import Dialer
from toxproxy.errors import ConfigError
from toxproxy.forward import ForwardListener
from toxproxy.socks import ProxyListener
from toxproxy.system.state import StateFolder
from toxproxy.tox.node import ConnectionStatus
from toxproxy.tunnel.friend import Friend, short


class Client(End):
    """The near end: listens, and dials through its servers.

    `state` is a folder, or its path, for this client's identity. `changed` is called whenever `peers`
    would say something new. Entering the context starts the node and opens the listeners
    of the configuration; leaving it resets what is open. See `End` for the errors.
    """

    def __init__(
        self,
        config: Config,
        state: StateFolder | str | os.PathLike[str],
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._changed = changed
        self._servers: dict[bytes, Friend] = {}
        self._listeners: list[tuple[Forward | ProxyPort, ForwardListener | ProxyListener]] = []
        super().__init__(config, state, NICKNAME)
        self._known = KnownServers(self._state)
        self._listening = contextlib.AsyncExitStack()

    async def _start(self) -> None:
        messages = {server: request_message(self.config.secret_for(server)) for server in self.config.servers}
        self._known.read()
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
                listener = ForwardListener(entry, dialer, limits, compress=compress)
            else:
                listener = ProxyListener(entry, dialer, limits, compress=compress)
            await listener.start()
            self._listening.push_async_callback(listener.drain)
            self._listening.push_async_callback(listener.close)
            self._listeners.append((entry, listener))
        await self._start_control(Speedtest(self._observer, self._servers.values).methods)

    def _make_observer(self) -> Observer:
        return Observer(
            EndRole.CLIENT,
            self.node,
            self.config,
            self._state,
            friends=self._servers.values,
            listeners=self._listener_snapshots,
            known=lambda key: self._known.knows(key),
        )

    def _listener_snapshots(self) -> Iterator[ListenerSnapshot]:
        for entry, listener in self._listeners:
            forward = isinstance(entry, Forward)
            for address in listener.addresses:
                yield ListenerSnapshot(
                    name=entry.name,
                    kind=ListenerKind.FORWARD if forward else ListenerKind.PROXY,
                    address=address,
                    target=str(entry.target) if isinstance(entry, Forward) else None,
                    peer_key=entry.server.public_key.hex().upper(),
                    connections=listener.connections,
                    accepted=listener.accepted,
                    refused=listener.refused,
                )

    def _add(self, server: ToxId, message: bytes) -> None:
        number = self.node.add_friend(server, message)
        friend = Friend(
            self.node,
            number,
            server.public_key,
            changed=self._friend_changed,
            wait=self.config.tox.wait,
            limits=self._limits,
            grace=self.config.tox.grace,
        )
        self._friends[number] = self._servers[server.public_key] = friend

    def _friend_changed(self, friend: Friend) -> None:
        if friend.met:
            self._known.met(friend.key)
        self._observer.peer_changed(friend)
        self._changed()

    @property
    def connections(self) -> int:
        """How many connections `drain` would wait for, those included that wait for a server."""
        return max(super().connections, sum(listener.connections for _, listener in self._listeners))

    async def drain(self) -> None:
        """Stop listening, then let the connections and streams end, for at most `DRAIN` seconds."""
        listeners = [listener for _, listener in self._listeners]
        for listener in listeners:
            await listener.close()
        await asyncio.gather(super().drain(), *(listener.drain(DRAIN) for listener in listeners))

    def listening(self) -> Iterator[Listening]:
        for entry, listener in self._listeners:
            kind = "forward" if isinstance(entry, Forward) else "socks"
            for address in listener.addresses:
                yield Listening(entry.name, kind, address)

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
