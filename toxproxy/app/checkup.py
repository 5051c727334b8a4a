"""The method `checkup`: what a running end finds when it tries everything that it is for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from toxproxy.app.observer import Observer
from toxproxy.app.orders import expect
from toxproxy.app.passage import Passage, quality
from toxproxy.control.checks import Check, CheckKind, Fault, fine, note, ordered, untried, wrong
from toxproxy.control.encoding import encoded
from toxproxy.control.server import Method, Params
from toxproxy.control.snapshots import (
    Advice,
    EndRole,
    ListenerKind,
    ListenerSnapshot,
    ListenerState,
    MappingSnapshot,
    NetworkPath,
    PathKind,
    PeerSnapshot,
    PeerState,
    Snapshot,
)
from toxproxy.errors import Refusal
from toxproxy.mapping.grant import Failure, Progress
from toxproxy.outbound.service import answers
from toxproxy.system.resolver import Resolver
from toxproxy.system.sockets import routes_ipv6
from toxproxy.tox.bootstrap import introducers
from toxproxy.tox.reach import Reach, Reached, reach
from toxproxy.tunnel.friend import Friend

SETTLED = 12.0  # seconds that a node takes to join the network, by UDP as well
_SECONDS = 12.0  # for the name service
_MOST_TARGETS = 16  # of one server, and clients whose paths are shown


class Checkup:
    """Tries everything at once, within 14 s. A client opens a connection to each target of its forwards."""

    def __init__(self, observer: Observer, friends: Callable[[], Iterable[Friend]]) -> None:
        self._observer = observer
        self._friends = friends
        self._began = time.monotonic()

    @property
    def methods(self) -> Mapping[str, Method]:
        """By the names in requests."""
        return {"checkup": self.checkup}

    async def checkup(self, params: Params) -> object:
        """`Check`s, in the order of their kinds, and the `Snapshot` that they belong to."""
        expect(params)
        friends = list(self._friends())
        before = self._observer.take()
        client = before.end.role is EndRole.CLIENT
        found, tried, names = await asyncio.gather(
            self._reached(),
            asyncio.gather(*(self._tried(friend) for friend in friends if client)),
            self._names(),
        )
        snapshot = self._observer.take()
        settled = time.monotonic() - self._began >= SETTLED
        checks = [
            _library(snapshot),
            ipv6(),
            _router(snapshot.network.mapping),
            *network(snapshot.network.path, found, udp=snapshot.network.udp_port is not None,
                     settled=settled, direct=any(p.path is PathKind.DIRECT for p in snapshot.peers)),
            *(self._peer(snapshot, peer) for peer in snapshot.peers if client),
            *(_listener(each) for each in snapshot.listeners),
            *(check for each in tried for check in each),
            *_access(snapshot),
            *([] if client else [names]),
            *([] if client else _paths(snapshot)),
        ]  # fmt: skip
        return {"checks": encoded(list(ordered(checks))), "snapshot": encoded(snapshot)}

    async def _reached(self) -> list[Reached]:
        tox = self._observer.config.tox
        return [] if tox.proxy is not None else await reach(introducers(tox), ipv6=not tox.on_loopback)

    async def _names(self) -> Check:
        """The name service of a server, where its rules are about names."""
        config = self._observer.config
        permits = [config.access.rules.permit, *(each.permit or () for each in config.clients)]
        if config.exit.upstream is not None or all(r.about_addresses for rules in permits for r in rules):
            return untried(CheckKind.NAMES, Fault.NOT_ASKED_FOR)
        try:
            async with asyncio.timeout(_SECONDS):
                alive = await answers(Resolver())
        except TimeoutError:
            alive = False
        return fine(CheckKind.NAMES) if alive else wrong(CheckKind.NAMES, Fault.RESOLVER_DEAD)

    def _peer(self, snapshot: Snapshot, peer: PeerSnapshot) -> Check:
        about = peer.name or peer.key[:12]
        match peer.state:
            case PeerState.CONNECTED:
                return fine(CheckKind.PEER, about)
            case _ if snapshot.network.path is NetworkPath.NONE:
                return untried(CheckKind.PEER, Fault.NOT_CONNECTED)
            case PeerState.WAITING:
                fault = Fault.SECRET_NOT_TAKEN if self._sends_secret(peer.key) else Fault.NOT_LET_IN
                return wrong(CheckKind.PEER, fault, about, detail=snapshot.end.words)
            case PeerState.OFFLINE:
                return wrong(CheckKind.PEER, Fault.SERVER_GONE, about, detail=snapshot.end.words)
            case PeerState.SILENT:
                return wrong(CheckKind.PEER, Fault.PEER_SILENT, about)
        return wrong(CheckKind.PEER, Fault.CONNECTING, about)

    def _sends_secret(self, key: str) -> bool:
        servers = [each for each in self._observer.config.servers if each.public_key.hex().upper() == key]
        return any(self._observer.config.secret_for(server) is not None for server in servers)

    async def _tried(self, friend: Friend) -> list[Check]:
        config, key = self._observer.config, friend.key
        targets = [
            each.target for each in config.forwards if key in {server.public_key for server in each.servers}
        ]
        proxies = any(key in {server.public_key for server in each.servers} for each in config.proxies)
        passage = Passage(friend, lambda: self._observer.peer(friend))
        return await passage.tried(list(dict.fromkeys(targets))[:_MOST_TARGETS], names=proxies)


def network(
    path: NetworkPath, found: Sequence[Reached], *, udp: bool, settled: bool, direct: bool = False
) -> list[Check]:
    """What the way into the Tox network shows. `settled`: Tox had the time to find it by UDP as well."""
    joined = path is not NetworkPath.NONE
    open_ = sum(each.tcp is Reach.OPEN for each in found)
    refused_here = bool(found) and udp and all(each.udp is Reach.FORBIDDEN for each in found)
    nodes = fine(CheckKind.NODES, f"{open_} of {len(found)}" if found else None)
    if not joined and not found:
        nodes = untried(CheckKind.NODES, Fault.NODES_NONE)
    elif not joined and not settled and any(each.udp is Reach.OPEN for each in found):
        nodes = wrong(CheckKind.NODES, Fault.CONNECTING)
    elif not joined and not open_ and not refused_here:
        about = ", ".join(str(each.node) for each in found[:3])
        nodes = wrong(CheckKind.NODES, Fault.NODES_UNREACHABLE, about)
    elif not joined and settled and not udp:
        nodes = wrong(CheckKind.NODES, Fault.NETWORK_NOT_JOINED)
    if direct:
        path = NetworkPath.UDP
    return [nodes, _udp(path, udp=udp, refused_here=refused_here, settled=settled, answers=open_)]


def _udp(path: NetworkPath, *, udp: bool, refused_here: bool, settled: bool, answers: int) -> Check:
    if not udp:
        return note(CheckKind.UDP, Fault.UDP_OFF)
    if path in (NetworkPath.UDP, NetworkPath.LOCAL):
        return fine(CheckKind.UDP)
    if refused_here:
        return wrong(CheckKind.UDP, Fault.UDP_REFUSED_HERE)
    if settled and (path is NetworkPath.TCP or answers):
        return wrong(CheckKind.UDP, Fault.UDP_BLOCKED)
    return untried(CheckKind.UDP, Fault.CONNECTING if not settled else Fault.NOT_CONNECTED)


def ipv6() -> Check:
    """Whether this machine has IPv6."""
    return fine(CheckKind.IPV6) if routes_ipv6() else note(CheckKind.IPV6, Fault.IPV6_NONE)


def _router(mapping: MappingSnapshot | None) -> Check:
    if mapping is None:
        return untried(CheckKind.ROUTER, Fault.NOT_ASKED_FOR)
    about = f"{mapping.external_address}:{mapping.external_port}"
    match mapping.state:
        case Progress.MAPPED if mapping.public:
            return fine(CheckKind.ROUTER, about)
        case Progress.MAPPED:
            return note(CheckKind.ROUTER, Fault.ROUTER_NOT_PUBLIC, about)
        case Progress.NO_ROUTER:
            return untried(CheckKind.ROUTER, Fault.ROUTER_NONE)
        case Progress.ASKING:
            return untried(CheckKind.ROUTER, Fault.CONNECTING)
        case Progress.NOT_NEEDED:
            return fine(CheckKind.ROUTER)
    says = mapping.failure in (Failure.REFUSED, Failure.TAKEN, Failure.NONSENSE)
    return note(CheckKind.ROUTER, Fault.ROUTER_REFUSES if says else Fault.ROUTER_SILENT)


def _paths(snapshot: Snapshot) -> Iterator[Check]:
    """The paths to the clients of a server, as they were measured by what they carry."""
    there = [peer for peer in snapshot.peers if peer.state is PeerState.CONNECTED]
    for peer in there[:_MOST_TARGETS]:
        if peer.link is not None and peer.link.rtt_ms is not None:
            yield from quality(peer, peer.link.rtt_ms, peer.name or peer.key[:12])


def _library(snapshot: Snapshot) -> Check:
    version = snapshot.end.libtoxcore_version
    if snapshot.end.libtoxcore_advice is Advice.DOUBTFUL:
        return note(CheckKind.LIBRARY, Fault.LIBRARY_DOUBTFUL, version)
    return fine(CheckKind.LIBRARY, version)


def _listener(listener: ListenerSnapshot) -> Check:
    about = f"{listener.address} ({listener.name})"
    if listener.kind is not ListenerKind.REVERSE:
        return fine(CheckKind.PORTS, about)
    match listener.state:
        case ListenerState.LISTENING:
            return fine(CheckKind.REVERSE, about)
        case ListenerState.REFUSED:
            forbidden = listener.refusal == Refusal.NOT_PERMITTED.name.lower()
            fault = Fault.LISTEN_FORBIDDEN if forbidden else Fault.LISTEN_REFUSED
            return wrong(CheckKind.REVERSE, fault, about, detail=listener.detail)
    return untried(CheckKind.REVERSE, Fault.NOT_CONNECTED)


def _access(snapshot: Snapshot) -> list[Check]:
    access = snapshot.access
    if access is None:
        return []
    connected = sum(peer.state is PeerState.CONNECTED for peer in snapshot.peers)
    if access.waiting:
        return [note(CheckKind.PEER, Fault.CLIENTS_WAIT, value=len(access.waiting))]
    if not (access.admitted or access.anyone or access.secret):
        return [note(CheckKind.PEER, Fault.NOBODY_ALLOWED)]
    return [fine(CheckKind.PEER, value=connected)]
