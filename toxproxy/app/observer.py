"""Takes the snapshots of an end from its node, its friends and its listeners."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from toxproxy import __version__
from toxproxy.admission.words import words
from toxproxy.app.rates import LEAST, Rates
from toxproxy.config.settings import Config
from toxproxy.control.findings import udp_blocked
from toxproxy.control.snapshots import (
    AccessSnapshot,
    Advice,
    AllowanceSnapshot,
    AuditSnapshot,
    EndRole,
    EndSnapshot,
    LimitsSnapshot,
    LinkSnapshot,
    ListenerSnapshot,
    MappingSnapshot,
    NetworkPath,
    NetworkSnapshot,
    PathKind,
    PeerSnapshot,
    PeerState,
    RelayReason,
    Snapshot,
    TrafficSnapshot,
)
from toxproxy.mapping.grant import Progress
from toxproxy.mapping.mapper import Mapper
from toxproxy.system.state import StateFolder
from toxproxy.tox import library
from toxproxy.tox.node import ConnectionStatus, Node
from toxproxy.tunnel.friend import Friend, Phase
from toxproxy.tunnel.session import Session

_NETWORK = {
    ConnectionStatus.NONE: NetworkPath.NONE,
    ConnectionStatus.TCP: NetworkPath.TCP,
    ConnectionStatus.UDP: NetworkPath.UDP,
}
_PATH = {
    ConnectionStatus.NONE: PathKind.UNKNOWN,
    ConnectionStatus.TCP: PathKind.RELAY,
    ConnectionStatus.UDP: PathKind.DIRECT,
}


_SILENCE = 4.0  # seconds without a datagram; one that is asked for comes after two and a round trip
_SEARCH = 30.0  # seconds in which a direct path is found if there is one


@dataclass(slots=True)
class _Since:
    """A state, and since when."""

    state: PeerState
    path: PathKind
    state_at: float
    path_at: float


class Observer:
    """The snapshots of one end. Call `network_changed` and `peer_changed` when something may have changed.

    `listeners`, `access`, `audit` and `allowance` return what only the one or the other role has. `known`
    says whether a server has let this client in before. `config` is set again when another one holds;
    `mapper` is set where the router is asked for a port.
    """

    def __init__(
        self,
        role: EndRole,
        node: Node,
        config: Config,
        state: StateFolder,
        *,
        friends: Callable[[], Iterable[Friend]],
        listeners: Callable[[], Iterable[ListenerSnapshot]] = tuple,
        access: Callable[[], AccessSnapshot | None] = lambda: None,
        audit: Callable[[], AuditSnapshot | None] = lambda: None,
        name_of: Callable[[bytes], str | None] = lambda _: None,
        allowance: Callable[[bytes], AllowanceSnapshot | None] = lambda _: None,
        known: Callable[[bytes], bool] = lambda _: False,
    ) -> None:
        self._role = role
        self._node = node
        self.config = config
        self.mapper: Mapper | None = None
        self._folder = state.path
        self._friends = friends
        self._listeners = listeners
        self._access = access
        self._audit = audit
        self._name_of = name_of
        self._allowance = allowance
        self._known = known
        self._started = self._network_at = _unix()
        self._since: dict[bytes, _Since] = {}
        self._rates = Rates()

    # Changes

    def network_changed(self) -> None:
        """The node has joined the network or lost it, or now reaches it in another way."""
        self._network_at = _unix()

    def peer_changed(self, friend: Friend) -> None:
        """A friend's phase or connection may have changed."""
        self._noted(friend)

    # Snapshots

    async def measured(self) -> Snapshot:
        """A snapshot with rates: where there was none lately, it takes a moment to measure them."""
        now = time.monotonic()
        if not self._rates.ready(now, {friend.key for friend in self._friends() if friend.met}):
            self._sample(now)
            await asyncio.sleep(1.25 * LEAST)
        return self.take()

    def take(self) -> Snapshot:
        """A snapshot at once. Rates are None where there was none in the last seconds."""
        return Snapshot(
            taken_unix_s=_unix(),
            end=self._end(),
            network=self._network(),
            peers=self.peers(),
            listeners=tuple(self._listeners()),
            limits=self._limits(),
            access=self._access(),
            audit=self._audit(),
        )

    def peers(self) -> tuple[PeerSnapshot, ...]:
        """The peers alone."""
        now = time.monotonic()
        friends = list(self._friends())
        peers = tuple(self.peer(friend, now) for friend in friends)
        for gone in self._since.keys() - {friend.key for friend in friends}:
            del self._since[gone]
        self._sample(now)
        return peers

    def peer(self, friend: Friend, now: float | None = None) -> PeerSnapshot:
        """One of them."""
        since, carried = self._noted(friend), friend.carried
        rates = self._rates.of(friend.key, time.monotonic() if now is None else now, carried) or (None, None)
        relayed = since.path is PathKind.RELAY
        return PeerSnapshot(
            key=friend.key.hex().upper(),
            name=self._name_of(friend.key),
            words=words(friend.key),
            state=since.state,
            since_unix_s=since.state_at,
            met=friend.met,
            ready=friend.phase is Phase.READY,
            path=since.path,
            path_since_unix_s=since.path_at,
            relay_reason=self._relay_reason(friend, since.path_at) if relayed else None,
            address=None,
            resumed=friend.resumed,
            streams=len(friend.streams),
            flows=sum(each.stream.flow is not None for each in friend.streams),
            waiting=friend.waiting,
            traffic=TrafficSnapshot(
                sent_bytes=carried[0],
                received_bytes=carried[1],
                sent_bytes_per_s=rates[0],
                received_bytes_per_s=rates[1],
            ),
            link=None if friend.session is None else _link(friend.session),
            allowance=self._allowance(friend.key),
        )

    def _noted(self, friend: Friend) -> _Since:
        state, path, now = self._state(friend), _PATH[friend.connection], _unix()
        since = self._since.get(friend.key)
        if since is None:
            since = self._since[friend.key] = _Since(state, path, now, now)
        if since.state is not state:
            since.state, since.state_at = state, now
        if since.path is not path:
            since.path, since.path_at = path, now
        return since

    def _state(self, friend: Friend) -> PeerState:
        match friend.phase:
            case Phase.READY:
                silent = friend.session is not None and (friend.session.silence or 0.0) > _SILENCE
                return PeerState.SILENT if silent else PeerState.CONNECTED
            case Phase.LINKING:
                return PeerState.SILENT if friend.met else PeerState.CONNECTING
        if friend.met or self._role is EndRole.SERVER:
            return PeerState.OFFLINE
        if self._node.connection is ConnectionStatus.NONE:
            return PeerState.CONNECTING
        return PeerState.OFFLINE if self._known(friend.key) else PeerState.WAITING

    def _relay_reason(self, friend: Friend, since: float) -> RelayReason:
        node, now = self._node, _unix()
        if node.udp_port is None:
            return RelayReason.UDP_OFF
        if udp_blocked(self._network(), now):
            return RelayReason.UDP_BLOCKED
        if friend.udp_there is False:
            return RelayReason.NO_UDP_THERE
        return RelayReason.SEARCHING if now - since < _SEARCH else RelayReason.NOT_FOUND

    def _sample(self, now: float) -> None:
        self._rates.note(now, {friend.key: friend.carried for friend in self._friends()})

    def _end(self) -> EndSnapshot:
        node = self._node
        return EndSnapshot(
            role=self._role,
            tox_id=str(node.tox_id),
            public_key=node.public_key.hex().upper(),
            words=words(node.public_key),
            name=node.name,
            started_unix_s=self._started,
            version=__version__,
            libtoxcore_version=library.version(),
            libtoxcore_advice=Advice.NONE if library.warning() is None else Advice.DOUBTFUL,
            state_folder=str(self._folder),
            process_id=os.getpid(),
        )

    def _network(self) -> NetworkSnapshot:
        node = self._node
        asked, public = node.asked
        path = _NETWORK[node.connection]
        if path is NetworkPath.TCP and not public:  # libtoxcore says so also by UDP
            path = NetworkPath.LOCAL
        node.doubt_udp()
        deaf = node.deaf_s
        return NetworkSnapshot(
            path=path,
            since_unix_s=self._network_at,
            nodes_asked=asked,
            udp_port=node.udp_port,
            udp_silent_s=None if deaf is None else round(deaf, 3),
            tcp_port=node.tcp_port,
            mapping=None if self.mapper is None else _mapping(self.mapper),
        )

    def _limits(self) -> LimitsSnapshot:
        limits, tox = self.config.limits, self.config.tox
        return LimitsSnapshot(
            streams=limits.streams,
            flows=limits.flows,
            connections=limits.connections,
            memory_bytes=limits.memory,
            stream_memory_bytes=limits.stream_memory,
            process_memory_bytes=limits.process_memory,
            friend_requests=limits.friend_requests,
            wait_s=tox.wait,
            grace_s=tox.grace,
        )


def _link(session: Session) -> LinkSnapshot:
    recovery, silence = session.recovery, session.silence
    trip, controller, flight = recovery.trip, recovery.controller, recovery.flight
    sent = flight.next_number - 1
    outgoing, assembly = session.multiplexer.scheduler.datagrams, session.multiplexer.assembly
    return LinkSnapshot(
        rtt_ms=_ms(trip.smoothed) if trip.known else None,
        least_rtt_ms=_ms(trip.least) if trip.known else None,
        queue_ms=_ms(max(0.0, trip.smoothed - trip.least)) if trip.known else None,
        sent_packets=sent,
        lost_packets=recovery.lost,
        loss_share=round(recovery.lost / max(1, sent), 6),
        sent_datagrams=outgoing.sent,
        received_datagrams=assembly.received,
        dropped_datagrams=outgoing.dropped,
        window_bytes=controller.window,
        in_flight_bytes=flight.bytes,
        silent_s=None if silence is None else round(silence, 3),
        phase=controller.state,
        lossy=controller.lossy,
    )


def _mapping(mapper: Mapper) -> MappingSnapshot:
    mapping, error = mapper.mapping, mapper.error
    if mapping is not None:
        return MappingSnapshot(
            state=Progress.MAPPED,
            protocol=mapping.by,
            external_address=str(mapping.address),
            external_port=mapping.port,
            public=mapping.public,
            failure=None,
        )
    failed = error if mapper.progress is Progress.FAILED else None
    return MappingSnapshot(
        state=mapper.progress,
        protocol=None if failed is None else failed.by,
        external_address=None,
        external_port=None,
        public=False,
        failure=None if failed is None else failed.failure,
    )


def _unix() -> float:
    return round(time.time(), 3)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
