"""What `toxproxy doctor` has tried, and what was wrong with it. Pure: values, no sentences."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from toxproxy.control.snapshots import RelayReason


class CheckKind(Enum):
    """What was tried. What is wrong with an earlier one explains the later ones."""

    CONFIGURATION = "configuration"
    LIBRARY = "library"
    STATE = "state"
    PORTS = "ports"
    NODES = "nodes"  # of the Tox network, to start from
    UDP = "udp"
    IPV6 = "ipv6"
    ROUTER = "router"  # whether it leads a port to Tox's
    PEER = "peer"
    TARGETS = "targets"
    REVERSE = "reverse"  # whether the server listens for this client
    NAMES = "names"  # the name service at the server
    CLOCK = "clock"
    QUALITY = "quality"


class Outcome(Enum):
    """How it went."""

    FINE = "fine"
    NOTE = "note"  # it works, and there is something to know
    WRONG = "wrong"
    UNTRIED = "untried"


class Fault(Enum):
    """What is wrong or worth knowing, or why something was not tried."""

    CONFIGURATION_WRONG = "configuration_wrong"
    LIBRARY_MISSING = "library_missing"
    LIBRARY_DOUBTFUL = "library_doubtful"
    STATE_FOREIGN = "state_foreign"  # it belongs to another user; `about` the path
    STATE_OPEN = "state_open"  # other users may look into it
    STATE_UNUSABLE = "state_unusable"  # no folder, or not to be written
    STATE_IN_USE = "state_in_use"  # by a process that does not answer
    PORT_TAKEN = "port_taken"  # of a listener
    PORT_UNUSABLE = "port_unusable"
    UDP_PORTS_TAKEN = "udp_ports_taken"
    NODES_UNREACHABLE = "nodes_unreachable"
    NODES_NONE = "nodes_none"  # none are configured
    NETWORK_NOT_JOINED = "network_not_joined"  # a node answers, and Tox does not join
    UDP_BLOCKED = "udp_blocked"
    UDP_REFUSED_HERE = "udp_refused_here"  # by a firewall of this machine
    UDP_OFF = "udp_off"
    IPV6_NONE = "ipv6_none"
    ROUTER_NONE = "router_none"  # there is no IPv4 gateway
    ROUTER_SILENT = "router_silent"  # it speaks none of the protocols for that
    ROUTER_REFUSES = "router_refuses"
    ROUTER_NOT_PUBLIC = "router_not_public"  # another NAT is in front of it; `about` the address and port
    CONNECTING = "connecting"
    NOT_LET_IN = "not_let_in"
    SECRET_NOT_TAKEN = "secret_not_taken"  # there is a secret, and the server has not answered
    SERVER_GONE = "server_gone"
    PEER_SILENT = "peer_silent"
    CLIENTS_WAIT = "clients_wait"
    NOBODY_ALLOWED = "nobody_allowed"
    TARGET_FORBIDDEN = "target_forbidden"
    TARGET_REFUSED = "target_refused"  # nothing listens there
    TARGET_UNREACHABLE = "target_unreachable"
    TARGET_NAME_UNKNOWN = "target_name_unknown"
    LISTEN_FORBIDDEN = "listen_forbidden"  # `about` the address at the server and the line of [reverse]
    LISTEN_REFUSED = "listen_refused"  # for another reason
    RESOLVER_DEAD = "resolver_dead"
    CLOCK_DIFFERS = "clock_differs"  # from the server's; `value` in seconds, above 0: ours is ahead
    RELAYED = "relayed"  # `relay_reason` says why
    MUCH_LOSS = "much_loss"  # `value`: a share
    LONG_QUEUE = "long_queue"  # `value`: milliseconds
    NOT_RUNNING = "not_running"  # nothing runs here that could be asked
    NOT_CONNECTED = "not_connected"
    NOT_ASKED_FOR = "not_asked_for"  # the configuration has none
    NOT_KNOWN_THERE = "not_known_there"  # the server is older, or does it in another way


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that was tried.

    `about` is a place: a path, an address, a target, a key, a name. `detail` is a text from elsewhere.
    `value` is a number whose unit the fault or the kind says.
    """

    kind: CheckKind
    outcome: Outcome
    fault: Fault | None = None
    about: str | None = None
    detail: str | None = None
    value: float | None = None
    relay_reason: RelayReason | None = None


def fine(kind: CheckKind, about: str | None = None, value: float | None = None) -> Check:
    """It is as it should be."""
    return Check(kind=kind, outcome=Outcome.FINE, about=about, value=value)


def note(kind: CheckKind, fault: Fault, about: str | None = None, value: float | None = None) -> Check:
    """It works; there is something to know."""
    return Check(kind=kind, outcome=Outcome.NOTE, fault=fault, about=about, value=value)


def wrong(
    kind: CheckKind,
    fault: Fault,
    about: str | None = None,
    detail: str | None = None,
    value: float | None = None,
) -> Check:
    """It has to be mended."""
    return Check(kind=kind, outcome=Outcome.WRONG, fault=fault, about=about, detail=detail, value=value)


def untried(kind: CheckKind, fault: Fault) -> Check:
    """It was not tried."""
    return Check(kind=kind, outcome=Outcome.UNTRIED, fault=fault)


_ORDER = list(CheckKind)


def ordered(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The checks in the order of their kinds."""
    return tuple(sorted(checks, key=lambda check: _ORDER.index(check.kind)))


def verdict(checks: Iterable[Check]) -> Check | None:
    """What has to be mended first; None if nothing has to."""
    return next((check for check in ordered(checks) if check.outcome is Outcome.WRONG), None)
