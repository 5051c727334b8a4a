"""What a configuration can say, as frozen values that are checked when they are made by `parsing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

from toxproxy.address import Bind, Target, ToxId
from toxproxy.errors import ConfigError
from toxproxy.patience import Patience
from toxproxy.rules import Rule, Rules, parse_rule

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """The bounds of one process.

    `streams`: connections that a friend may have open through here; the next one is refused. Each
    may hold 24 KiB beyond the memory that follows.
    `dials`: of those, the ones that the server is still connecting; more wait for their turn.
    `connections`: of one listener. When it has so many, the one that has been silent longest
    before its request makes room; where all have made theirs, new ones wait to be accepted.
    `handshake`: seconds until a proxy's client must have said where it wants to go.
    `memory`: bytes that the connections of one friend, together, may have waiting here, for programs
    that do not read and for the friend itself; half as much again until the friend has acknowledged
    it. `stream_memory`: bytes of one of them. `process_memory`: bytes of all friends.
    `friend_requests`: of strangers without the secret, judged in a minute; more are ignored.
    """

    streams: int = 8192
    dials: int = 256
    connections: int = 4096
    handshake: float = 10.0
    memory: int = 64 * MIB
    stream_memory: int = 8 * MIB
    process_memory: int = GIB
    friend_requests: int = 10
    patience: Patience = field(default_factory=Patience)


MAX_NICKNAME_BYTES = 128  # TOX_MAX_NAME_LENGTH


MAX_LOGIN_BYTES = 255  # RFC 1929: a user name or password of SOCKS5


#: Where clients may connect unless `permit` says something: the forward that `toxproxy server` prints.
DEFAULT_PERMIT = (parse_rule("127.0.0.1:22"),)


GRACE = 600.0  # seconds


MAX_GRACE = 7 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True)
class Forward:
    """A line of [client]: connections to `bind` go to `target`, as the server sees it."""

    name: str
    bind: Bind
    target: Target
    server: ToxId
    line: int


@dataclass(frozen=True, slots=True)
class ProxyPort:
    """A line of [socks]: a SOCKS and HTTP proxy whose connections leave from the server.

    `username` and `password` are both set, 1 to 255 bytes of UTF-8 each, or both None.
    """

    name: str
    bind: Bind
    server: ToxId
    username: str | None
    password: str | None = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class AccessSettings:
    """[access]: on a server who may connect and where to; on a client of one server the secret to send.

    `allow` holds public keys. `secret` is 1 to 512 bytes of UTF-8. `permit` is None where nobody has
    chosen yet, which means `DEFAULT_PERMIT`.
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
class ExitSettings:
    """[exit]: how a server connects. `upstream` is a checked proxy URL, `connect_timeout` in seconds."""

    upstream: str | None = field(default=None, repr=False)
    connect_timeout: float = 10.0


@dataclass(frozen=True, slots=True)
class BootstrapNode:
    """A DHT node to start from; `key` is its public key."""

    host: str
    port: int
    key: bytes


@dataclass(frozen=True, slots=True)
class TransportProxy:
    """A proxy, without authentication, that carries Tox itself."""

    kind: Literal["socks5", "http"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ToxSettings:
    """[tox]: how this node takes part in the network.

    `bootstrap` None is the built-in list of nodes, () none at all. `ports` are the first and
    the last to try for UDP. `tcp_relay` is the port to serve as a relay on, 0 for not at all.
    With a `proxy`, `udp` is off. `wait` is how many seconds a new connection waits for the
    server to be found, `grace` for how many an interrupted session is kept with its connections.
    """

    bootstrap: tuple[BootstrapNode, ...] | None = None
    udp: bool = True
    ports: tuple[int, int] = (33445, 33545)
    tcp_relay: int = 0
    local_discovery: bool = True
    proxy: TransportProxy | None = None
    wait: float = 30.0
    grace: float = GRACE


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a configuration file can say; without arguments, what an empty one says.

    `uncompressed` holds the names of the listeners whose connections [compress] leaves as they are.
    `secrets` are those of [secrets]: by the public key of a server what a client sends to it alone,
    1 to 512 bytes of UTF-8. With them, `access.secret` is the server's own and is not sent.
    `open_file` is the file's name where other users of the machine may read it.
    """

    server_name: str | None = None
    forwards: tuple[Forward, ...] = ()
    proxies: tuple[ProxyPort, ...] = ()
    uncompressed: frozenset[str] = frozenset()
    access: AccessSettings = AccessSettings()
    secrets: Mapping[bytes, str] = field(default_factory=dict, repr=False)
    exit: ExitSettings = ExitSettings()
    tox: ToxSettings = ToxSettings()
    limits: LimitSettings = field(default_factory=LimitSettings)
    open_file: str | None = field(default=None, compare=False)

    @property
    def listeners(self) -> tuple[Forward | ProxyPort, ...]:
        """The forwards and the proxies together, in the file's order."""
        return tuple(sorted((*self.forwards, *self.proxies), key=attrgetter("line")))

    @property
    def has_secrets(self) -> bool:
        """Whether a secret or a password is in it."""
        passwords = any(proxy.password for proxy in self.proxies) or "@" in (self.exit.upstream or "")
        return bool(self.access.secret or self.secrets or passwords)

    @property
    def servers(self) -> tuple[ToxId, ...]:
        """The servers that a client connects to, in the file's order, one Tox ID for each public key."""
        servers: dict[bytes, ToxId] = {}
        for listener in self.listeners:
            servers.setdefault(listener.server.public_key, listener.server)
        return tuple(servers.values())

    def secret_for(self, server: ToxId) -> str | None:
        """What a client sends to `server` to be let in. Raises `ConfigError` where that is not clear."""
        if self.secrets or self.access.secret is None:
            return self.secrets.get(server.public_key)
        if (count := len(self.servers)) > 1:
            raise ConfigError(
                f"[access] secret: expected one server, found {count}, and each would be told the secret of "
                "the others; write, below a line [secrets], for each that has one: TOXID = its secret"
            )
        return self.access.secret

    def require_client(self, file: str) -> None:
        """Raise `ConfigError`, naming `file`, where a client would have nothing to listen for, or
        would not know which server a secret is for."""
        if not self.listeners:
            raise ConfigError(
                f"{file}: expected a forward in [client] or a proxy in [socks], found none; "
                "write, for example, below a line [socks]: browser = 1080:TOXID"
            )
        try:
            self.secret_for(self.servers[0])
        except ConfigError as error:
            raise ConfigError(f"{file}: {error}") from None


DEFAULT = Config()
