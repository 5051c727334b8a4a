"""What a configuration can say, as frozen values, with the default of each.

`parsing` makes them from a file and checks them. A program that makes them itself keeps to the limits
that the docstrings name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address
from operator import attrgetter
from typing import Literal

from toxproxy.address import Bind, Target, ToxId, UdpTarget, UnixBind
from toxproxy.errors import ConfigError
from toxproxy.patience import Patience
from toxproxy.routing.routes import Routes
from toxproxy.rules import Rule, Rules, parse_rule

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

#: Where clients may connect without a `permit`: the forward that `toxproxy server` prints.
DEFAULT_PERMIT = (parse_rule("127.0.0.1:22"),)

TO_THE_LOG = "log"  # as the value of [log] audit

GRACE = 600.0  # seconds that an interrupted session is kept


@dataclass(frozen=True, slots=True)
class Forward:
    """A line of [client]: connections to `bind` go to `target`, as the server sees it.

    If that is a `UdpTarget`, it is datagrams that go there. A line for both makes two forwards.
    """

    name: str
    bind: Bind | UnixBind
    target: Target
    server: ToxId
    line: int
    others: tuple[ToxId, ...] = ()  # in order, where those before are not there

    @property
    def servers(self) -> tuple[ToxId, ...]:
        """All of its servers, in order."""
        return self.server, *self.others

    @property
    def udp(self) -> bool:
        """Whether this is about datagrams."""
        return isinstance(self.target, UdpTarget)


@dataclass(frozen=True, slots=True)
class ProxyPort:
    """A line of [socks]: a SOCKS and HTTP proxy whose connections leave from the server.

    `username` and `password` are both set, 1 to 255 bytes of UTF-8 each, or both None.
    """

    name: str
    bind: Bind | UnixBind
    server: ToxId
    username: str | None
    password: str | None = field(repr=False)
    line: int
    others: tuple[ToxId, ...] = ()  # in order, where those before are not there

    @property
    def servers(self) -> tuple[ToxId, ...]:
        """All of its servers, in order."""
        return self.server, *self.others


@dataclass(frozen=True, slots=True)
class ReverseSettings:
    """[reverse]: what servers listen for, and where it leads from this machine.

    The `bind` of an entry is at its only server. `permit` says where its proxy ports lead; None: to what is
    neither private nor this machine.
    """

    entries: tuple[Forward | ProxyPort, ...] = ()
    permit: tuple[Rule, ...] | None = None


@dataclass(frozen=True, slots=True)
class NamedExit:
    """A line of [exits]: what a server is called in this file."""

    name: str
    server: ToxId
    line: int


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """[access]: on a server, who may connect and where to. On a client of one server, the secret to send.

    `allow` holds the public keys of clients; `anyone` lets in every client. `secret` is 1 to 512 bytes
    of UTF-8. `permit` is None where the file has none; `DEFAULT_PERMIT` holds then.
    """

    allow: frozenset[bytes] = frozenset()
    anyone: bool = False
    secret: str | None = field(default=None, repr=False)
    permit: tuple[Rule, ...] | None = None
    deny: tuple[Rule, ...] = ()

    @property
    def rules(self) -> Rules:
        """Where clients may connect."""
        return Rules(DEFAULT_PERMIT if self.permit is None else self.permit, self.deny)


@dataclass(frozen=True, slots=True)
class Rate:
    """Bytes in a second that a client's connections carry together: `down` to it, `up` from it."""

    down: int
    up: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSection:
    """[client NAME]: what one client may at this server. It is let in by its public `key`.

    `permit` stands in place of that of [access], unless it is None; `deny` is added to the one there.
    `quota` is in bytes a month, both ways together. `expires` is in seconds since 1970: from then on the
    client is shut out. None is: without limit. `listen` is where it may have the server listen; see
    `config.listen`.
    """

    name: str
    key: bytes
    permit: tuple[Rule, ...] | None = None
    deny: tuple[Rule, ...] = ()
    listen: tuple[Rule, ...] = ()
    rate: Rate | None = None
    quota: int | None = None
    expires: int | None = None

    def rules(self, common: Rules) -> Rules:
        """Where this client may connect; `common` is where clients may."""
        deny = common.deny + self.deny
        if self.permit is None:
            return Rules(common.permit, deny)
        return Rules(self.permit, deny, "permit of this client's section")

    def over(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= now


@dataclass(frozen=True, slots=True)
class ExitSettings:
    """[exit]: how a server connects. `upstream` is a checked proxy URL, `connect_timeout` in seconds."""

    upstream: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class BootstrapNode:
    """A node of the Tox network to start from, or a TCP relay. `key` is its DHT public key, 32 bytes."""

    host: str
    port: int
    key: bytes

    @property
    def on_loopback(self) -> bool:
        """Whether the host is an address in 127.0.0.0/8."""
        try:
            return IPv4Address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class TransportProxy:
    """A proxy that carries Tox itself. Tox cannot send it a user name or a password."""

    kind: Literal["socks5", "http"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ToxSettings:
    """[tox]: how this node takes part in the network.

    `bootstrap`: the nodes to start from. None is the built-in list, () is no node at all.
    `ports`: the first and the last UDP port to try.
    `relays`: TCP relays of one's own, used instead of the network's.
    `tcp_relay`: the port of a TCP relay for the network, 0 for no relay.
    `proxy`: carries Tox over TCP; `udp` is off with it.
    `wait`: seconds that a new connection waits for the server to be found.
    `grace`: seconds that an interrupted session and its connections are kept.
    `port_mapping`: whether the router is asked to lead a port here; None: see `maps_port`.
    """

    bootstrap: tuple[BootstrapNode, ...] | None = None
    relays: tuple[BootstrapNode, ...] = ()
    udp: bool = True
    ports: tuple[int, int] = (33445, 33545)
    tcp_relay: int = 0
    local_discovery: bool = True
    proxy: TransportProxy | None = None
    wait: float = 30.0
    grace: float = GRACE
    port_mapping: bool | None = None

    @property
    def on_loopback(self) -> bool:
        """Whether all bootstrap nodes are in 127.0.0.0/8: then this is a test network without IPv6."""
        return bool(self.bootstrap) and all(node.on_loopback for node in self.bootstrap or ())

    @property
    def maps_port(self) -> bool:
        """Whether the router is asked to lead a port here.

        Never without UDP or through a proxy, which hides this machine from its own network, too. Unless
        `port_mapping` decides, it is asked where local discovery may speak to the local network as well,
        and only for a Tox network that goes beyond this machine and this local network.
        """
        if not self.udp or self.proxy is not None:
            return False
        if self.port_mapping is not None:
            return self.port_mapping
        return self.local_discovery and self.bootstrap != () and not self.on_loopback


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """[limits]: how many connections, how much memory and how much time others can take here.

    Each default is more than a user with a browser needs. The log names a limit that is reached.

    `streams`: open connections of one friend. One more is refused. Each takes up to 24 KiB besides
    the memory below.
    `flows`: of these, flows of datagrams (UDP); also how many flows one listener may have.
    `dials`: of these, the ones that the server is still connecting. More wait for their turn.
    `connections`: of one listener. At the limit, the one that has been silent longest before its
    request is reset; where all have sent theirs, new ones wait to be accepted.
    `handshake`: seconds that a proxy's client has for its request.
    `memory`: bytes that one friend's connections may hold here together, waiting for slow readers or
    for the friend. Bytes that the friend has not acknowledged may take half as much again.
    `stream_memory`: the same of one connection. `process_memory`: the same of all friends together.
    `friend_requests`: of strangers without the secret, judged in a minute. More are ignored.
    `patience`: how long a connection may be silent.
    """

    streams: int = 8192
    flows: int = 1024
    dials: int = 256
    connections: int = 4096
    handshake: float = 10.0
    memory: int = 64 * MIB
    stream_memory: int = 8 * MIB
    process_memory: int = GIB
    friend_requests: int = 10
    patience: Patience = field(default_factory=Patience)


class AuditFormat(Enum):
    """How a line of the audit is written."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """[log]: the audit, a line for each connection at its end, at a server.

    `audit` is None for none, `TO_THE_LOG`, or the path of a file. `audit_size` is how many bytes the file
    may have before it is moved to FILE.1; 0 is without limit.
    """

    audit: str | None = None
    audit_format: AuditFormat = AuditFormat.TEXT
    audit_size: int = 10 * MIB


@dataclass(frozen=True, slots=True)
class WebSettings:
    """[web]: where a program on this machine, or who knows the `secret`, sees and orders what this end does.

    `bind` is an address of loopback unless there is a `secret`, which is 1 to 512 bytes of UTF-8. Without
    one nothing can be ordered. `where` is the file and the line, for errors.
    """

    bind: Bind
    secret: str | None = field(default=None, repr=False)
    line: int = 0
    where: str = field(default="[web]", compare=False)


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a configuration file can say. Without arguments: what an empty file says.

    `uncompressed`: the names of the listeners that [compress] switches compression off for.
    `secrets`: from [secrets], what a client sends to each server, by the server's public key, 1 to 512
    bytes of UTF-8. A client that has them does not send `access.secret`.
    `open_file`: the file's name, if other users of the machine may read or write it.
    """

    server_name: str | None = None
    forwards: tuple[Forward, ...] = ()
    proxies: tuple[ProxyPort, ...] = ()
    reverse: ReverseSettings = ReverseSettings()
    exits: tuple[NamedExit, ...] = ()
    routes: Routes = field(default_factory=Routes)
    uncompressed: frozenset[str] = frozenset()
    access: AccessSettings = AccessSettings()
    clients: tuple[ClientSection, ...] = ()
    secrets: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    exit: ExitSettings = ExitSettings()
    tox: ToxSettings = ToxSettings()
    limits: LimitSettings = field(default_factory=LimitSettings)
    log: LogSettings = LogSettings()
    web: WebSettings | None = None
    open_file: str | None = field(default=None, compare=False)

    @property
    def listeners(self) -> tuple[Forward | ProxyPort, ...]:
        """The forwards and the proxies together, in the file's order."""
        return tuple(sorted((*self.forwards, *self.proxies), key=attrgetter("line")))

    @property
    def names(self) -> Mapping[str, ToxId]:
        """The servers of [exits], by name."""
        return {each.name: each.server for each in self.exits}

    @property
    def has_secrets(self) -> bool:
        """Whether the configuration holds a secret or a password."""
        entries = (*self.proxies, *self.reverse.entries)
        passwords = any(isinstance(each, ProxyPort) and each.password for each in entries)
        passwords = passwords or "@" in (self.exit.upstream or "")
        page = self.web is not None and self.web.secret is not None
        return bool(self.access.secret or self.secrets or passwords or page)

    @property
    def servers(self) -> tuple[ToxId, ...]:
        """The servers of a client: those of its listeners in the file's order, then of the other sections.

        Each public key is there once.
        """
        servers: dict[bytes, ToxId] = {}
        for listener in (*self.listeners, *self.reverse.entries):
            for server in listener.servers:
                servers.setdefault(server.public_key, server)
        for server in (*self.routes.servers, *(exit.server for exit in self.exits)):
            servers.setdefault(server.public_key, server)
        return tuple(servers.values())

    def secret_for(self, server: ToxId) -> str | None:
        """The secret that a client sends to `server`, or None.

        Raises `ConfigError` for one [access] secret and several servers.
        """
        if self.secrets or self.access.secret is None:
            return self.secrets.get(server.public_key)
        if (count := len(self.servers)) > 1:
            raise ConfigError(
                f"[access] secret: expected one server, found {count}, and each would be told the secret of "
                "the others; write, below a line [secrets], for each that has one: TOXID = its secret"
            )
        return self.access.secret

    def require_client(self, file: str) -> None:
        """Raise `ConfigError`, naming `file`, if a client cannot run with this.

        It needs a listener or a server, and each secret needs to be for one server.
        """
        if not self.servers:
            raise ConfigError(
                f"{file}: expected a forward in [client] or a proxy in [socks], found none; "
                "write, for example, below a line [socks]: browser = 1080:TOXID"
            )
        try:
            self.secret_for(self.servers[0])
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None


DEFAULT = Config()
