"""What in a snapshot explains how things are, or needs somebody to act. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from toxproxy.control.snapshots import (
    Advice,
    EndRole,
    ListenerState,
    NetworkPath,
    NetworkSnapshot,
    PathKind,
    PeerSnapshot,
    PeerState,
    RelayReason,
    Snapshot,
)

_SETTLED = 10.0  # seconds that the network takes to be found by UDP as well
_MUCH_LOSS, _ENOUGH_PACKETS = 0.05, 500  # share lost, of at least so many packets


class FindingKind(Enum):
    """One thing worth knowing."""

    NETWORK_NOT_FOUND = "network_not_found"
    UDP_BLOCKED = "udp_blocked"  # so every path is a relay
    UDP_OFF = "udp_off"  # by the configuration
    NOT_LET_IN = "not_let_in"  # a server was asked and has not answered
    SERVER_GONE = "server_gone"
    PEER_SILENT = "peer_silent"  # Tox reaches it, the session is interrupted
    NO_UDP_THERE = "no_udp_there"  # a peer is behind a relay since it has no UDP
    PATH_SEARCHED = "path_searched"  # it is behind a relay, and a direct path may still be found
    NO_DIRECT_PATH = "no_direct_path"  # UDP works at both ends, and yet a peer is behind a relay
    MUCH_LOSS = "much_loss"
    CLIENTS_WAIT = "clients_wait"  # to be let in
    NOBODY_ALLOWED = "nobody_allowed"
    AUDIT_NOT_WRITTEN = "audit_not_written"  # `count`: lines that are lost
    LISTENER_FULL = "listener_full"
    NOT_LISTENED = "not_listened"  # a server refuses to listen for a line of [reverse]
    LIBRARY_DOUBTFUL = "library_doubtful"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding about this end, or about one peer or listener. `count` is for what there are several of."""

    kind: FindingKind
    peer_key: str | None = None
    listener: str | None = None
    count: int = 0


def findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """All of them, the most important first."""
    return (
        *_about_network(snapshot),
        *(finding for peer in snapshot.peers for finding in _about_peer(snapshot, peer)),
        *_about_access(snapshot),
        *_about_audit(snapshot),
        *_about_listeners(snapshot),
        *_about_library(snapshot),
    )


def _about_network(snapshot: Snapshot) -> Iterator[Finding]:
    network = snapshot.network
    if network.path is NetworkPath.NONE:
        yield Finding(kind=FindingKind.NETWORK_NOT_FOUND)
    elif network.udp_port is None:
        yield Finding(kind=FindingKind.UDP_OFF)
    elif udp_blocked(network, snapshot.taken_unix_s):
        direct = any(peer.path is PathKind.DIRECT for peer in snapshot.peers)  # to one of the same network
        yield from [] if direct else [Finding(kind=FindingKind.UDP_BLOCKED)]


def udp_blocked(network: NetworkSnapshot, now_unix_s: float) -> bool:
    """Whether no UDP packet comes here, though it should. A direct path shows that one does."""
    only_tcp = network.path is NetworkPath.TCP and now_unix_s - network.since_unix_s >= _SETTLED
    return network.udp_silent_s is not None or only_tcp


_RELAYED = {
    RelayReason.NO_UDP_THERE: FindingKind.NO_UDP_THERE,
    RelayReason.SEARCHING: FindingKind.PATH_SEARCHED,
    RelayReason.NOT_FOUND: FindingKind.NO_DIRECT_PATH,
}  # the others are about the network


def _about_peer(snapshot: Snapshot, peer: PeerSnapshot) -> Iterator[Finding]:
    client = snapshot.end.role is EndRole.CLIENT
    match peer.state:
        case PeerState.WAITING:
            yield Finding(kind=FindingKind.NOT_LET_IN, peer_key=peer.key)
        case PeerState.SILENT:
            yield Finding(kind=FindingKind.PEER_SILENT, peer_key=peer.key, count=peer.streams)
        case PeerState.OFFLINE if client and snapshot.network.path is not NetworkPath.NONE:
            yield Finding(kind=FindingKind.SERVER_GONE, peer_key=peer.key, count=peer.streams)
        case PeerState.CONNECTED if peer.relay_reason in _RELAYED:
            yield Finding(kind=_RELAYED[peer.relay_reason], peer_key=peer.key)
    link = peer.link
    if link is not None and link.sent_packets >= _ENOUGH_PACKETS and link.loss_share > _MUCH_LOSS:
        yield Finding(kind=FindingKind.MUCH_LOSS, peer_key=peer.key)


def _about_access(snapshot: Snapshot) -> Iterator[Finding]:
    access = snapshot.access
    if access is None:
        return
    if access.waiting:
        yield Finding(kind=FindingKind.CLIENTS_WAIT, count=len(access.waiting))
    elif not (access.admitted or access.anyone or access.secret):
        yield Finding(kind=FindingKind.NOBODY_ALLOWED)


def _about_audit(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.audit is not None and snapshot.audit.lost:
        yield Finding(kind=FindingKind.AUDIT_NOT_WRITTEN, count=snapshot.audit.lost)


def _about_listeners(snapshot: Snapshot) -> Iterator[Finding]:
    for listener in snapshot.listeners:
        if listener.connections >= snapshot.limits.connections:
            yield Finding(kind=FindingKind.LISTENER_FULL, listener=listener.name, count=listener.connections)
        if listener.state is ListenerState.REFUSED:
            peer = listener.peer_key
            yield Finding(kind=FindingKind.NOT_LISTENED, listener=listener.name, peer_key=peer)


def _about_library(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.end.libtoxcore_advice is Advice.DOUBTFUL:
        yield Finding(kind=FindingKind.LIBRARY_DOUBTFUL)
