"""What a running end tells of itself, as values: states are Enums, units are in the names.

Pure. `VERSION` changes when a field loses its meaning. `control.encoding` makes JSON of them.

Names ending in `_unix_s` are seconds since 1970 (UTC); other `_s` are durations.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from toxproxy.mapping.grant import By, Failure, Progress
from toxproxy.mux.stream import StreamState
from toxproxy.recovery.congestion import State

VERSION = 1


class EndRole(Enum):
    """Which end this is."""

    SERVER = "server"
    CLIENT = "client"


class NetworkPath(Enum):
    """How this node is connected to the Tox network."""

    NONE = "none"
    TCP = "tcp"  # through relays: no UDP packet came back
    UDP = "udp"
    LOCAL = "local"  # to nodes of local addresses only: libtoxcore does not tell whether by UDP


class PeerState(Enum):
    """How far the way to a peer is."""

    CONNECTING = "connecting"  # it is looked for, or was found and there is no session yet
    WAITING = "waiting"  # it was asked and has not answered: it may have to let this client in
    CONNECTED = "connected"
    SILENT = "silent"  # nothing comes from it, or the session is interrupted, but Tox still knows it
    OFFLINE = "offline"  # not found; there were sessions with it, or this is a server


class PathKind(Enum):
    """What carries the packets between the two ends."""

    UNKNOWN = "unknown"
    DIRECT = "direct"
    RELAY = "relay"


class RelayReason(Enum):
    """Why a path is a relay, and not direct."""

    UDP_OFF = "udp_off"  # here, by the configuration
    UDP_BLOCKED = "udp_blocked"  # here: no UDP packet comes
    NO_UDP_THERE = "no_udp_there"  # off or blocked at the other end, as that says
    SEARCHING = "searching"  # the direct path may still be found
    NOT_FOUND = "not_found"  # UDP works at both ends: a NAT or firewall between them is strict


class ListenerKind(Enum):
    """What a listener's clients speak."""

    FORWARD = "forward"
    PROXY = "proxy"
    COMMAND = "command"  # `toxproxy connect`, which needs no port
    REVERSE = "reverse"  # at the server, for this client
    FOR_CLIENT = "for_client"  # here, for a client


class ListenerState(Enum):
    """How far a listener is. Those of this end listen."""

    LISTENING = "listening"
    WAITING = "waiting"  # for the server, which is to listen
    ASKED = "asked"  # it has not answered yet
    REFUSED = "refused"  # it is asked again


class WayKind(Enum):
    """Which way connections leave."""

    SERVERS = "servers"
    DIRECT = "direct"
    REJECT = "reject"


class Advice(Enum):
    """What is worth knowing about the library's version."""

    NONE = "none"
    DOUBTFUL = "doubtful"  # GHSA-42vg-9mg3-399f, unless the distribution has fixed it


class Admission(Enum):
    """Why a client may connect, or may not."""

    CONFIGURED = "configured"  # [access] allow, or a section [client NAME]
    COMMAND = "command"
    SECRET = "secret"
    ANYONE = "anyone"
    BLOCKED = "blocked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSnapshot:
    """This end. `words` stand for its public key; see `admission.words`."""

    role: EndRole
    tox_id: str
    public_key: str
    words: str
    name: str
    started_unix_s: float
    version: str
    libtoxcore_version: str
    libtoxcore_advice: Advice
    state_folder: str
    process_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSnapshot:
    """The port of the router that leads to this node's UDP port.

    `external_address` and `external_port` are None unless `state` is MAPPED. `public` is False where the
    address is of another NAT. `protocol` is the one by which it is mapped, or that gave the `failure`.
    """

    state: Progress
    protocol: By | None
    external_address: str | None
    external_port: int | None
    public: bool
    failure: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSnapshot:
    """The Tox network. `nodes_asked`: how often a bootstrap node was asked.

    `udp_port` is None where UDP is switched off. `udp_silent_s`: how long no UDP packet has come although
    nodes were asked; None if they come, or if it is not known. `mapping` is None where the router is not
    asked.
    """

    path: NetworkPath
    since_unix_s: float
    nodes_asked: int
    udp_port: int | None
    udp_silent_s: float | None
    tcp_port: int | None
    mapping: MappingSnapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficSnapshot:
    """Bytes that connections carried, before compression, since the program began.

    The rates are of the last seconds; None where nothing was measured yet.
    """

    sent_bytes: int
    received_bytes: int
    sent_bytes_per_s: float | None
    received_bytes_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSnapshot:
    """The path to a peer as recovery sees it.

    `rtt_ms` is smoothed, `least_rtt_ms` the lowest of the last 10 to 20 seconds, `queue_ms` the difference;
    None before the first measurement. Packets and datagrams are counted since the session began;
    `dropped_datagrams` were late or too many, and never left. `loss_share` is from 0 to 1 of the packets that
    were sent. `silent_s`: since when nothing came; None without a link. `phase` is what congestion control is
    doing.
    """

    rtt_ms: float | None
    least_rtt_ms: float | None
    queue_ms: float | None
    sent_packets: int
    lost_packets: int
    loss_share: float
    sent_datagrams: int
    received_datagrams: int
    dropped_datagrams: int
    window_bytes: int
    in_flight_bytes: int
    silent_s: float | None
    phase: State
    lossy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowanceSnapshot:
    """What a client may by its section [client NAME], and what it has used; None is without limit.

    Bytes are those of connections, before compression. The quota is for both directions together, in a
    calendar month of UTC.
    """

    down_bytes_per_s: int | None
    up_bytes_per_s: int | None
    quota_bytes: int | None
    used_bytes: int | None
    expires_unix_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSnapshot:
    """The other end of a tunnel. `link` is None without a session.

    `allowance` is None at a client, and for a client without a section [client NAME].

    `met`: there has been a session. `ready`: there is one, with a link. `relay_reason` is None unless the
    path is a relay. `address` is None where it is not known: libtoxcore does not tell it. `waiting`
    connections wait for a session, beside the `streams`; `flows` of these are of datagrams (UDP).
    """

    key: str
    name: str | None
    words: str
    state: PeerState
    since_unix_s: float
    met: bool
    ready: bool
    path: PathKind
    path_since_unix_s: float
    relay_reason: RelayReason | None
    address: str | None
    resumed: int
    streams: int
    flows: int
    waiting: int
    traffic: TrafficSnapshot
    link: LinkSnapshot | None
    allowance: AllowanceSnapshot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSnapshot:
    """One address that is listened on. `target` is None for a proxy port and for commands.

    `peer_key` is the first server that it leads to; None where each connection says which.
    Connections: `connections` now, `accepted` and `refused` (by the far end) since the start.

    Of the kind REVERSE the address is at the server, `target` is None for a proxy port, and connections are
    refused here. `refusal` is the name of a `Refusal`, `detail` the server's text for people. Of the kind
    FOR_CLIENT `name` and `peer_key` are the client's.
    """

    name: str
    kind: ListenerKind
    address: str
    target: str | None
    peer_key: str | None
    connections: int
    accepted: int
    refused: int
    state: ListenerState = ListenerState.LISTENING
    refusal: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSnapshot:
    """[limits], as far as they bound what is shown here; `wait_s` and `grace_s` are [tox]'s."""

    streams: int
    flows: int
    connections: int
    memory_bytes: int
    stream_memory_bytes: int
    process_memory_bytes: int
    friend_requests: int
    wait_s: float
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StrangerSnapshot:
    """A client that asked to be let in, and waits."""

    key: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSnapshot:
    """Who may connect to a server: how many clients may, whether anyone may, and who waits."""

    admitted: int
    anyone: bool
    secret: bool
    waiting: tuple[StrangerSnapshot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditSnapshot:
    """Where a server's audit goes. `file` is None for the log.

    `lost`: lines that could not be written, since the last one that was.
    """

    file: str | None
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything at one moment. `access` is None at a client, `audit` where there is none."""

    version: int = VERSION
    taken_unix_s: float
    end: EndSnapshot
    network: NetworkSnapshot
    peers: tuple[PeerSnapshot, ...]
    listeners: tuple[ListenerSnapshot, ...]
    limits: LimitsSnapshot
    access: AccessSnapshot | None
    audit: AuditSnapshot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSnapshot:
    """A client on record at a server, or in its configuration. Bytes are since the server began.

    `seen_unix_s`: when it was last connected; None if it never was, or nobody wrote it down.
    """

    key: str
    name: str | None
    words: str
    admission: Admission
    connected: bool
    seen_unix_s: float | None
    expires_unix_s: float | None
    sent_bytes: int
    received_bytes: int
    allowance: AllowanceSnapshot | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSnapshot:
    """One connection through the tunnel. `id` is what `close` takes."""

    id: str
    peer_key: str
    target: str
    state: StreamState
    age_s: float
    sent_bytes: int
    received_bytes: int
    unsent_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PongSnapshot:
    """The answer to one ping. `rtt_ms` is None where none came in time."""

    peer_key: str
    state: PeerState
    path: PathKind
    rtt_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaySnapshot:
    """Servers in order, by name or by the beginning of their key. `chosen`: the one that is used now.

    `port` is the proxy port that this is about; None: all of them.
    """

    port: str | None
    servers: tuple[str, ...]
    chosen: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSnapshot:
    """Which way a connection to `target` leaves through a proxy port.

    `rule` is the line of [route] that decides, as it is written, and `line` where it stands; None: each port
    goes its own way, as `ways` say. An exit's own port does not go by the rule, and is in `ways`.
    """

    target: str
    rule: str | None
    line: int | None
    kind: WayKind
    ways: tuple[WaySnapshot, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadSnapshot:
    """What a reload did. Names are as in the file: `[client] ssh`, `[limits] streams`.

    `added`, `removed`: listeners, and at a server sections `[client NAME]`; `changed`: listeners and keys.
    `restart`: keys that differ and count from the next start on. `warnings` are sentences for people, as at
    the start.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    restart: tuple[str, ...]
    warnings: tuple[str, ...]
