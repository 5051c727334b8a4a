"""The near end: listens, and dials through its servers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from toxproxy.address import Target, ToxId, UdpTarget, parse_host, parse_key
from toxproxy.admission.access import request_message
from toxproxy.admission.clients import is_name
from toxproxy.app.connecting import Connecting
from toxproxy.app.directions import Directions
from toxproxy.app.end import DRAIN, NICKNAME, End, Listening, audit_snapshot
from toxproxy.app.known import KnownServers
from toxproxy.app.listeners import Listeners, Sockets, close
from toxproxy.app.observer import Observer
from toxproxy.app.orders import find_peer
from toxproxy.app.reversing import Callback, ReverseServer, Reversing
from toxproxy.app.speedtest import Speedtest
from toxproxy.app.ways import Ways
from toxproxy.audit.ledger import Ledger
from toxproxy.config.exits import parse_servers
from toxproxy.config.settings import Config, Forward, LogSettings
from toxproxy.control.snapshots import EndRole, ListenerKind, ListenerSnapshot
from toxproxy.dialer import Dialer
from toxproxy.errors import ConfigError, StateError
from toxproxy.inbound.stdio import NAME as STDIO
from toxproxy.inbound.stdio import Stdio
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.endpoint import DatagramEndpoint
from toxproxy.tunnel.friend import Friend, short

log = logging.getLogger(__name__)


class Client(End):
    """The near end: listens, and dials through its servers.

    `state` is a folder, or its path, for this client's identity. `changed` is called whenever `peers`
    would say something new. Entering the context starts the node and opens the listeners
    of the configuration; leaving it resets what is open. See `End` for the errors.
    """

    role = "client"

    def __init__(
        self,
        config: Config,
        state: StateFolder | str | os.PathLike[str],
        *,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._servers: dict[bytes, Friend] = {}
        self._ways = Ways(config, self._servers)
        self._listeners = Listeners(self._ways)
        self._ledger = Ledger(LogSettings())
        self._reversing = Reversing(
            config, self._servers, name=self._name, write=lambda record: self._ledger.write(record)
        )
        self._leaving: dict[bytes, asyncio.Task[None]] = {}  # from servers that were removed
        self._stdio = Stdio(config.limits)
        self._turn = asyncio.Lock()  # servers come and go one after the other
        super().__init__(config, state, NICKNAME)
        self.watch(changed)
        self._known = KnownServers(self._state)

    async def _start(self) -> None:
        messages = {server: request_message(self.config.secret_for(server)) for server in self.config.servers}
        self._ledger = Ledger(audited(self.config))
        self._resources.callback(lambda: self._ledger.close())
        self._known.read()
        await self._start_node()
        wanted = {server.public_key for server in self.config.servers}
        for key in self.node.friends.keys() - wanted:
            self.node.remove_friend(key)
        for server, message in messages.items():
            self._add(server, message)
        self._resources.push_async_callback(self._stop_leaving)
        self._resources.push_async_callback(self._listeners.drain)
        self._resources.push_async_callback(self._listeners.close)
        self._resources.push_async_callback(self._reversing.close)
        await self._listeners.switch(self.config, await self._listeners.bind(self.config))
        await self._reversing.switch(self.config)
        speedtest = Speedtest(self._observer, self._servers.values)
        methods = {**speedtest.methods, **Directions(self._ways).methods}
        await self._start_control(methods, Connecting(self._stdio, self.way).takers)

    async def _take_over(self, config: Config) -> Config:
        async with self._turn:
            return await self._switch(config)

    async def _switch(self, config: Config) -> Config:
        config.require_client("the configuration")
        new = [server for server in config.servers if server.public_key not in self._servers]
        messages = {server: request_message(config.secret_for(server)) for server in new}
        ledger = Ledger(audited(config))  # opened again even if nothing differs: its file may have moved
        sockets: Sockets = {}
        added: list[ToxId] = []
        try:
            sockets = await self._listeners.bind(config)
            for server, message in messages.items():
                self._add(server, message)
                added.append(server)
        except BaseException:
            ledger.close()
            close(sockets)
            for server in added:
                with contextlib.suppress(StateError):  # the next start removes it
                    self._remove(server.public_key)
            raise
        wanted = {server.public_key for server in config.servers}
        for key in wanted:
            if (task := self._leaving.pop(key, None)) is not None:
                task.cancel()
        self._ledger.close()
        self._ledger = ledger
        self._ways.change(config)
        await self._listeners.switch(config, sockets)
        await self._reversing.switch(config)
        self._stdio.limits = config.limits
        for key in self._servers.keys() - wanted - self._leaving.keys():
            self._leaving[key] = asyncio.create_task(self._leave(key), name="leave a server")
        return self._as_asked(config)

    def _as_asked(self, config: Config) -> Config:
        """`config` with the secrets that went out with the friend requests: those hold until the end."""
        sent = {server.public_key: self.config.secret_for(server) for server in self.config.servers}
        secrets: dict[bytes, str] = {}
        for server in config.servers:
            key = server.public_key
            secret = sent[key] if key in sent else config.secret_for(server)
            if secret is not None:
                secrets[key] = secret
        return replace(config, secrets=secrets, access=replace(config.access, secret=None))

    async def _leave(self, key: bytes) -> None:
        """Let the connections through a server end by themselves, then forget it."""
        friend = self._servers[key]
        await self._reversing.gone(key)
        await self._listeners.gone(key)
        await friend.idle()
        async with self._turn:
            await friend.close("this server is not in the configuration any more")
            del self._leaving[key]
            try:
                self._remove(key)
            except StateError as error:
                log.error("%s", error)

    async def _stop_leaving(self) -> None:
        tasks = list(self._leaving.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _make_observer(self) -> Observer:
        return Observer(
            EndRole.CLIENT,
            self.node,
            self.config,
            self._state,
            friends=self._servers.values,
            listeners=self._listening,
            name_of=self._name,
            audit=lambda: audit_snapshot(audited(self.config), self._ledger),
            known=lambda key: self._known.knows(key),
        )

    def _add(self, server: ToxId, message: bytes) -> None:
        number = self.node.add_friend(server, message)
        friend = Friend(
            self.node,
            number,
            server.public_key,
            changed=self._friend_changed,
            host=self._reversing.outlet(server.public_key),
            near=True,
            wait=self.config.tox.wait,
            limits=self._limits,
            grace=self.config.tox.grace,
            name_of=self._name,
        )
        self._friends[number] = self._servers[server.public_key] = friend

    def _name(self, key: bytes) -> str | None:
        """What [exits] calls a server; else what it calls itself, if that is a word that fits a line."""
        exits = (each.name for each in self.config.exits if each.server.public_key == key)
        if exit_name := next(exits, None):
            return exit_name
        name = self._servers[key].nickname if key in self._servers else ""
        return name if is_name(name) and name != NICKNAME else None

    def _remove(self, key: bytes) -> None:
        """Forget a server. Raises `StateError` as `Node.remove_friend`."""
        friend = self._servers.pop(key)
        for number in [number for number, each in self._friends.items() if each is friend]:
            del self._friends[number]
        self.node.remove_friend(key)

    def _friend_changed(self, friend: Friend) -> None:
        if friend.met:
            self._known.met(friend.key)
        self._observer.peer_changed(friend)
        self._ways.changed()
        self._tell()

    @property
    def connections(self) -> int:
        """How many connections `drain` would wait for, those included that wait for a server."""
        return max(super().connections, self._listeners.connections)

    async def drain(self) -> None:
        """Stop listening, then let the connections and streams end, for at most `DRAIN` seconds."""
        await self.reloader.close()
        await self._listeners.close()
        await self._reversing.close()
        await asyncio.gather(super().drain(), self._listeners.drain(DRAIN))

    def listening(self) -> Iterator[Listening]:
        for entry, address in self._listeners.addresses():
            kind = "socks" if not isinstance(entry, Forward) else "udp" if entry.udp else "forward"
            yield Listening(entry.name, kind, address)

    def dialer(self, server: ToxId | None = None) -> Dialer:
        """The way through `server`, or through the only one of the configuration.

        Raises `ConfigError` where that does not say which server.
        """
        return self._friend(server)

    def _friend(self, server: ToxId | None) -> Friend:
        key = self._only_server() if server is None else server.public_key
        if key not in self._servers:
            raise ConfigError(
                f"the server {short(key)} is not in the configuration, or the client did not start"
            )
        return self._servers[key]

    def way(self, name: str | None) -> Dialer:
        """The way through the server that is called `name`, or whose ID, key or beginning of a key that is.

        Several in order, with commas between them, are a way, too. None: the only one, or the only one that
        is connected. Raises `ConfigError`.
        """
        with contextlib.suppress(ValueError, KeyError):
            return self._ways.through(parse_servers(name or "", self.config.names))
        with contextlib.suppress(ValueError):
            name = None if name is None else parse_key(name).hex()
        try:
            return find_peer(self._observer, self._servers.values(), name)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    def _listening(self) -> Iterator[ListenerSnapshot]:
        yield from self._listeners.snapshots()
        yield from self._reversing.snapshots()
        if (stdio := self._stdio).accepted:
            yield ListenerSnapshot(
                name=STDIO,
                kind=ListenerKind.COMMAND,
                address="toxproxy connect",
                target=None,
                peer_key=None,
                connections=stdio.connections,
                accepted=stdio.accepted,
                refused=stdio.refused,
            )

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

    async def start_server(
        self,
        client_connected_cb: Callback,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        server: ToxId | None = None,
    ) -> ReverseServer:
        """As `asyncio.start_server`, with the port at the server ([client NAME] listen permits it there).

        `host` is an address there, or `*`; a port of 0 any that is free. Waits for the server as
        `open_connection` does, and for its answer. Raises `StreamRefused`; `ValueError` for a host or a port
        that cannot be; `ConfigError` where `server` does not say which.
        """
        return await self._reversing.start_server(client_connected_cb, host, port, self._friend(server))

    async def open_datagram(self, host: str, port: int, *, server: ToxId | None = None) -> DatagramEndpoint:
        """A flow of datagrams (UDP) from the server's side to one target.

        Waits for the server as long as the configuration says, and for its answer. Raises as
        `open_connection`.
        """
        target = UdpTarget(parse_host(host), port)
        friend = self._friend(server)
        await friend.reached()
        endpoint = DatagramEndpoint()
        await endpoint.open(friend, target)
        return endpoint


def audited(config: Config) -> LogSettings:
    """A client's audit: without [reverse] nothing leaves here, and the file may be a server's."""
    return config.log if config.reverse.entries else LogSettings()
