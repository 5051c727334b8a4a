"""The two ends, wired together: the only place where the parts meet.

`Server` and `Client` are asynchronous context managers; leaving them leaves the network. A
program of its own can open connections through a `Client`:

    async with Client(config, StateFolder(path)) as client:
        reader, writer = await client.open_connection("intranet.example", 80)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Self

from toxproxy.address import Target, ToxId, parse_host, parse_key
from toxproxy.admission.access import Access, request_message
from toxproxy.admission.guests import Guests
from toxproxy.admission.requests import Requests
from toxproxy.app.control import ControlServer
from toxproxy.config.limits import LimitSettings
from toxproxy.config.parsing import Config, Forward
from toxproxy.dialer import Dialer
from toxproxy.errors import ConfigError
from toxproxy.forward import ForwardListener
from toxproxy.mux import Limits
from toxproxy.mux.limits import Pool
from toxproxy.outbound.exit import Exit
from toxproxy.pace import Notice
from toxproxy.socks import ProxyListener
from toxproxy.system.state import StateFolder, default_path
from toxproxy.tox.node import Connection, Node
from toxproxy.tunnel.friend import Friend, Phase, short

log = logging.getLogger(__name__)

_NICKNAME = "toxproxy"  # in Tox; it tells nothing of what is behind it
_LINES = 20  # a minute, about the coming and going of one client
DRAIN = 10.0  # seconds that streams get to end when the program stops


@dataclass(frozen=True, slots=True)
class Listening:
    """One listener's entry in the ready file."""

    name: str
    kind: str  # "forward" or "socks"
    address: str


class Presence(Enum):
    """What a server's log says of a client."""

    HERE = "here"
    AWAY = "away"  # with connections that wait for it
    GONE = "gone"


class _End:
    """What both ends have: a node, its friends, a state folder that nobody else uses."""

    def __init__(self, config: Config, state: StateFolder, name: str) -> None:
        self.config = config
        self.node = Node(config.tox, state, name, self)
        self._state = state
        self._limits = session_limits(config.limits)
        self._friends: dict[int, Friend] = {}
        self._resources = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._resources.enter_context(self._state.lock())
            await self._start()
        except BaseException:
            await self._resources.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._resources.aclose()

    async def _start(self) -> None:
        raise NotImplementedError

    async def _start_node(self) -> None:
        await self._resources.enter_async_context(self.node)
        self._resources.push_async_callback(self._close_friends)

    async def _close_friends(self) -> None:
        async with asyncio.TaskGroup() as group:
            for friend in self._friends.values():
                group.create_task(friend.close("stopping"))

    @property
    def streams(self) -> int:
        """How many streams live, with all friends together."""
        return sum(friend.streams for friend in self._friends.values())

    @property
    def connections(self) -> int:
        """How many connections `drain` would wait for."""
        return sum(friend.connections for friend in self._friends.values())

    async def drain(self) -> None:
        """Let the streams end by themselves, for at most `DRAIN` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN):
                for friend in list(self._friends.values()):
                    await friend.idle()

    def describe(self) -> dict[str, object]:
        """The content of the ready file."""
        node = self.node
        return {
            "tox_id": str(node.tox_id),
            "public_key": node.public_key.hex().upper(),
            "dht_key": node.dht_key.hex().upper(),
            "udp_port": node.udp_port,
            "tcp_port": node.tcp_port,
            "listeners": [asdict(listening) for listening in self.listening()],
        }

    def listening(self) -> Iterator[Listening]:
        """Every address that is listened on."""
        return iter(())

    # What the node says

    def connection_changed(self, connection: Connection) -> None:
        log.debug("Tox network: %s", connection.name.lower())

    def friend_connection_changed(self, friend: int, connection: Connection) -> None:
        if (known := self._friends.get(friend)) is not None:
            known.connection_changed(connection)

    def friend_request(self, key: bytes, message: bytes) -> None:
        log.debug("friend request of %s ignored", short(key))


class Server(_End):
    """The far end: lets clients in and connects where they ask for."""

    def __init__(self, config: Config, state: StateFolder) -> None:
        super().__init__(config, state, config.server_name or _NICKNAME)
        self.access = Access(config.access, state)
        self._exit = Exit(config.exit, config.access.rules, config.limits.dials)
        self._guests = Guests(self.node, self.access, self._friends, self._befriend)
        self._requests = Requests(
            self.access,
            config.access.secret,
            config.limits.friend_requests,
            let_in=self._guests.let_in,
            command=lambda: f"toxproxy allow{self._option}",
        )
        self._told: dict[bytes, Presence] = {}
        self._tell: dict[bytes, Notice] = {}  # of whom that is told

    async def _start(self) -> None:
        await self._start_node()
        self._guests.start()
        self._resources.push_async_callback(self._guests.close)
        control = ControlServer(self._state, {"allow": self._allow})
        await control.start()
        self._resources.push_async_callback(control.close)

    def friend_request(self, key: bytes, message: bytes) -> None:
        self._requests.received(key, message)

    @property
    def _option(self) -> str:
        """What `toxproxy allow` needs to be told to find this server."""
        path = self._state.path
        return "" if path == default_path("server") else f" --state {path}"

    def connection_changed(self, connection: Connection) -> None:
        if connection is Connection.NONE:
            log.info("the Tox network is lost; looking for it")
        else:
            log.info("connected to the Tox network")

    def _befriend(self, number: int, key: bytes) -> Friend:
        return Friend(
            self.node,
            number,
            key,
            changed=self._friend_changed,
            exit=self._exit.guest(),
            limits=self._limits,
            grace=self.config.tox.grace,
        )

    def _allow(self, fields: dict[str, object]) -> dict[str, object]:
        """The control socket's `allow`: {"key": hexadecimal} in, {"text": what was done} out."""
        key = parse_key(str(fields.get("key", "")))
        self._guests.allow(key)
        log.info("client %s is allowed", short(key))
        return {"text": f"client {short(key)} is allowed; it connects by itself"}

    def _friend_changed(self, friend: Friend) -> None:
        was = self._told.get(friend.key, Presence.GONE)
        now = presence(friend, was)
        if now is Presence.GONE:
            self._told.pop(friend.key, None)
        else:
            self._told[friend.key] = now
        who = short(friend.key)
        tell = self._tell.setdefault(friend.key, Notice(log, most=_LINES))
        match was, now:
            case _ if was is now:
                pass
            case Presence.AWAY, Presence.HERE:
                tell("client %s is back, %s; its connections go on", who, how(friend.connection))
            case _, Presence.HERE:
                tell("client %s connected, %s", who, how(friend.connection))
                self._guests.met(friend)
            case _, Presence.AWAY:
                grace = self.config.tox.grace
                tell("client %s is away; %s for it, for up to %g s", who, waiting(friend.streams), grace)
            case Presence.AWAY, _:
                tell("client %s left; its connections are closed", who)
            case _:
                tell("client %s left", who)


class Client(_End):
    """The near end: listens, and dials through its servers.

    `changed` is called whenever `statuses` would say something new.
    """

    def __init__(
        self, config: Config, state: StateFolder, *, changed: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(config, state, _NICKNAME)
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
                kind, listener = (
                    "forward",
                    ForwardListener(entry, dialer, limits, compress=compress),
                )
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

    def connection_changed(self, connection: Connection) -> None:
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
        if self.node.connection is Connection.NONE:
            return "looking for the Tox network"
        if friend.met:
            return f"{who} is gone; looking for it"
        return f"network found; asking {who}, waiting to be allowed"


def session_limits(settings: LimitSettings) -> Limits:
    """What each of this process's friends may make it hold."""
    usual = Limits()
    return Limits(
        window=min(usual.window, settings.stream_memory),
        most_window=settings.stream_memory,
        session_window=settings.memory,
        pool=Pool(settings.process_memory),
        streams=settings.streams,
        patience=settings.patience,
    )


def presence(client: Friend, was: Presence) -> Presence:
    """Whether a client is there now. An interruption counts only while it has streams."""
    if client.phase is Phase.READY:
        return Presence.HERE
    if client.streams:
        return Presence.AWAY
    return was if was is Presence.HERE and client.phase is Phase.LINKING else Presence.GONE


def waiting(count: int) -> str:
    """Connections as the subject and the verb of a sentence."""
    return "1 connection waits" if count == 1 else f"{count} connections wait"


def how(connection: Connection) -> str:
    """A kind of connection, for people."""
    return {Connection.UDP: "direct", Connection.TCP: "through a relay", Connection.NONE: "not connected"}[
        connection
    ]
