"""A snapshot as Prometheus reads it: base units, counters that end in `_total`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from toxproxy.control.snapshots import (
    AllowanceSnapshot,
    LinkSnapshot,
    NetworkPath,
    PathKind,
    PeerSnapshot,
    PeerState,
    Snapshot,
)
from toxproxy.mapping.grant import Progress

__all__ = ["CONTENT_TYPE", "exposition"]


def exposition(snapshot: Snapshot) -> bytes:
    """The text of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(snapshot))
    return generate_latest(registry)


class _Collector(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _end(snapshot)
        yield from _peers(snapshot.peers)
        yield from _allowances(snapshot.peers)
        yield from _links([(peer, peer.link) for peer in snapshot.peers if peer.link is not None])
        yield from _listeners(snapshot)


def _gauge(
    name: str, what: str, *samples: tuple[tuple[str, ...], float], labels: tuple[str, ...] = ()
) -> Metric:
    family = GaugeMetricFamily(f"toxproxy_{name}", what, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(
    name: str, what: str, *samples: tuple[tuple[str, ...], float], labels: tuple[str, ...] = ()
) -> Metric:
    family = CounterMetricFamily(f"toxproxy_{name}", what, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _end(snapshot: Snapshot) -> Iterator[Metric]:
    end, network = snapshot.end, snapshot.network
    versions = (end.role.value, end.version, end.libtoxcore_version)
    labels = ("role", "version", "libtoxcore_version")
    yield _gauge("info", "The role and the versions of this end.", (versions, 1), labels=labels)
    yield _gauge("start_time_seconds", "When it started, since 1970.", ((), end.started_unix_s))
    paths = [((path.value,), float(path is network.path)) for path in NetworkPath]
    yield _gauge("network_path", "1 for the way to the Tox network.", *paths, labels=("path",))
    asked = ((), float(network.nodes_asked))
    yield _counter("bootstrap_requests", "How often a bootstrap node was asked.", asked)
    if network.mapping is not None:
        mapped = ((), float(network.mapping.state is Progress.MAPPED))
        yield _gauge("port_mapped", "1 if a port of the router leads here.", mapped)
    if snapshot.access is not None:
        yield _gauge("clients_admitted", "Clients that may connect.", ((), snapshot.access.admitted))
        waiting = ((), float(len(snapshot.access.waiting)))
        yield _gauge("clients_waiting", "Clients that wait to be let in.", waiting)


_PEER = ("peer", "name")
_DATAGRAMS: tuple[tuple[str, str, Callable[[LinkSnapshot], int]], ...] = (
    ("sent", "that were sent", lambda link: link.sent_datagrams),
    ("received", "that came", lambda link: link.received_datagrams),
    ("dropped", "that were late or too many, and not sent", lambda link: link.dropped_datagrams),
)


def _label(peer: PeerSnapshot) -> tuple[str, str]:
    return peer.key[:12], peer.name or ""


def _peers(peers: Iterable[PeerSnapshot]) -> Iterator[Metric]:
    states = [
        ((*_label(peer), state.value), float(peer.state is state)) for peer in peers for state in PeerState
    ]
    yield _gauge("peer_state", "1 for the state of a peer.", *states, labels=(*_PEER, "state"))
    paths = [((*_label(peer), path.value), float(peer.path is path)) for peer in peers for path in PathKind]
    yield _gauge("peer_path", "1 for the path to a peer.", *paths, labels=(*_PEER, "path"))
    streams = [(_label(peer), float(peer.streams)) for peer in peers]
    yield _gauge("peer_streams", "Open connections through a peer.", *streams, labels=_PEER)
    flows = [(_label(peer), float(peer.flows)) for peer in peers]
    yield _gauge("peer_flows", "Flows of datagrams among the connections.", *flows, labels=_PEER)
    waiting = [(_label(peer), float(peer.waiting)) for peer in peers]
    yield _gauge("peer_waiting_connections", "Connections that wait for a peer.", *waiting, labels=_PEER)
    resumed = [(_label(peer), float(peer.resumed)) for peer in peers]
    yield _counter("peer_resumptions", "Sessions that went on after an interruption.", *resumed, labels=_PEER)
    sent = [(_label(peer), float(peer.traffic.sent_bytes)) for peer in peers]
    yield _counter("peer_sent_bytes", "Bytes of connections sent to a peer.", *sent, labels=_PEER)
    received = [(_label(peer), float(peer.traffic.received_bytes)) for peer in peers]
    yield _counter("peer_received_bytes", "Bytes of connections from a peer.", *received, labels=_PEER)


_ALLOWANCES: tuple[tuple[str, str, Callable[[AllowanceSnapshot], float | None]], ...] = (
    ("quota_bytes", "Bytes that a client may carry in a month.", lambda it: it.quota_bytes),
    ("quota_used_bytes", "Bytes that it has carried in this month.", lambda it: it.used_bytes),
    ("rate_down_bytes_per_second", "Bytes a second to a client at most.", lambda it: it.down_bytes_per_s),
    ("rate_up_bytes_per_second", "Bytes a second from a client at most.", lambda it: it.up_bytes_per_s),
    ("expires_time_seconds", "Until when a client may connect, since 1970.", lambda it: it.expires_unix_s),
)


def _allowances(peers: Iterable[PeerSnapshot]) -> Iterator[Metric]:
    given = [(_label(peer), peer.allowance) for peer in peers if peer.allowance is not None]
    for name, what, value in _ALLOWANCES if given else ():
        known = [(label, float(found)) for label, it in given if (found := value(it)) is not None]
        yield _gauge(f"client_{name}", what, *known, labels=_PEER)


def _links(links: list[tuple[PeerSnapshot, LinkSnapshot]]) -> Iterator[Metric]:
    seconds = {
        "rtt_seconds": ("Smoothed round trip to a peer.", "rtt_ms"),
        "least_rtt_seconds": ("Least round trip of the last 10 to 20 seconds.", "least_rtt_ms"),
        "queue_seconds": ("Delay of the queue on the path.", "queue_ms"),
    }
    for name, (what, field) in seconds.items():
        values = [(_label(peer), getattr(link, field)) for peer, link in links]
        known = [(label, value / 1000) for label, value in values if value is not None]
        yield _gauge(f"peer_{name}", what, *known, labels=_PEER)
    sent = [(_label(peer), float(link.sent_packets)) for peer, link in links]
    yield _counter("peer_sent_packets", "Packets sent in this session.", *sent, labels=_PEER)
    lost = [(_label(peer), float(link.lost_packets)) for peer, link in links]
    yield _counter("peer_lost_packets", "Packets of this session that were lost.", *lost, labels=_PEER)
    for name, what, count in _DATAGRAMS:
        counts = [(_label(peer), float(count(link))) for peer, link in links]
        yield _counter(f"peer_{name}_datagrams", f"Datagrams of this session {what}.", *counts, labels=_PEER)
    window = [(_label(peer), float(link.window_bytes)) for peer, link in links]
    yield _gauge("peer_window_bytes", "Bytes that may be on their way.", *window, labels=_PEER)
    flight = [(_label(peer), float(link.in_flight_bytes)) for peer, link in links]
    yield _gauge("peer_in_flight_bytes", "Bytes on their way.", *flight, labels=_PEER)


def _listeners(snapshot: Snapshot) -> Iterator[Metric]:
    labels = ("listener", "kind", "address")
    each = [((x.name, x.kind.value, x.address), x) for x in snapshot.listeners]
    now = [(label, float(x.connections)) for label, x in each]
    yield _gauge("listener_connections", "Open connections of a listener.", *now, labels=labels)
    accepted = [(label, float(x.accepted)) for label, x in each]
    yield _counter("listener_accepted", "Connections accepted.", *accepted, labels=labels)
    refused = [(label, float(x.refused)) for label, x in each]
    yield _counter("listener_refused", "Connections refused by the far end.", *refused, labels=labels)
