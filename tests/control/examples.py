"""Snapshots to begin with: a test changes what it is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from toxproxy.control.snapshots import (
    AccessSnapshot,
    Advice,
    EndRole,
    EndSnapshot,
    LimitsSnapshot,
    LinkSnapshot,
    ListenerKind,
    ListenerSnapshot,
    MappingSnapshot,
    NetworkPath,
    NetworkSnapshot,
    PathKind,
    PeerSnapshot,
    PeerState,
    RelayReason,
    Snapshot,
    StrangerSnapshot,
    TrafficSnapshot,
)
from toxproxy.mapping.grant import By, Progress
from toxproxy.recovery.congestion import State

NOW = 1_800_000_000.0
SERVER_KEY, CLIENT_KEY, OTHER_KEY = "5FDC96D235715B3C" * 4, "4C4FDBAB2ED2589D" * 4, "0123456789ABCDEF" * 4
WORDS = "acid tower quick zebra moon lamp"

LINK = LinkSnapshot(
    rtt_ms=23.4,
    least_rtt_ms=20.0,
    queue_ms=3.4,
    sent_packets=10_000,
    lost_packets=20,
    loss_share=0.002,
    sent_datagrams=0,
    received_datagrams=0,
    dropped_datagrams=0,
    window_bytes=700_000,
    in_flight_bytes=350_000,
    silent_s=0.1,
    phase=State.CRUISE,
    lossy=False,
)
PEER = PeerSnapshot(
    key=SERVER_KEY,
    name=None,
    words=WORDS,
    state=PeerState.CONNECTED,
    since_unix_s=NOW - 7380,
    met=True,
    ready=True,
    path=PathKind.DIRECT,
    path_since_unix_s=NOW - 3600,
    relay_reason=None,
    address=None,
    resumed=0,
    streams=3,
    flows=0,
    waiting=0,
    traffic=TrafficSnapshot(
        sent_bytes=12_000_000,
        received_bytes=340_000_000,
        sent_bytes_per_s=1_200_000.0,
        received_bytes_per_s=0.0,
    ),
    link=LINK,
)
RELAYED = replace(PEER, path=PathKind.RELAY, relay_reason=RelayReason.NOT_FOUND)
MAPPING = MappingSnapshot(
    state=Progress.MAPPED,
    protocol=By.PCP,
    external_address="203.0.113.5",
    external_port=33445,
    public=True,
    failure=None,
)
AWAITED = replace(
    PEER, state=PeerState.WAITING, met=False, ready=False, path=PathKind.UNKNOWN, streams=0, link=None
)  # fmt: skip
FORWARD = ListenerSnapshot(
    name="ssh",
    kind=ListenerKind.FORWARD,
    address="127.0.0.1:2222",
    target="127.0.0.1:22",
    peer_key=SERVER_KEY,
    connections=1,
    accepted=7,
    refused=2,
)
PROXY = replace(
    FORWARD, name="browser", kind=ListenerKind.PROXY, address="127.0.0.1:1080", target=None, refused=0
)
STRANGER = StrangerSnapshot(key=OTHER_KEY, words=WORDS)
ACCESS = AccessSnapshot(admitted=1, anyone=False, secret=False, waiting=())

CLIENT = Snapshot(
    taken_unix_s=NOW,
    end=EndSnapshot(
        role=EndRole.CLIENT,
        tox_id=CLIENT_KEY + "0" * 12,
        public_key=CLIENT_KEY,
        words=WORDS,
        name="toxproxy",
        started_unix_s=NOW - 90_000,
        version="0.1.0",
        libtoxcore_version="0.2.18",
        libtoxcore_advice=Advice.NONE,
        state_folder="/home/me/.local/state/toxproxy/client",
        process_id=4711,
    ),
    network=NetworkSnapshot(
        path=NetworkPath.UDP,
        since_unix_s=NOW - 7400,
        nodes_asked=4,
        udp_port=33445,
        udp_silent_s=None,
        tcp_port=None,
        mapping=None,
    ),
    peers=(PEER,),
    listeners=(FORWARD, PROXY),
    limits=LimitsSnapshot(
        streams=8192,
        flows=1024,
        connections=4096,
        memory_bytes=64 << 20,
        stream_memory_bytes=8 << 20,
        process_memory_bytes=1 << 30,
        friend_requests=10,
        wait_s=30.0,
        grace_s=600.0,
    ),
    access=None,
    audit=None,
)
SERVER = replace(
    CLIENT,
    end=replace(CLIENT.end, role=EndRole.SERVER),
    peers=(replace(PEER, key=CLIENT_KEY, name="laptop"),),
    listeners=(),
    access=ACCESS,
)


def with_peer(snapshot: Snapshot, peer: PeerSnapshot = PEER, **changes: Any) -> Snapshot:
    """The snapshot with this peer alone, changed."""
    return replace(snapshot, peers=(replace(peer, **changes),))


def with_network(snapshot: Snapshot, **changes: Any) -> Snapshot:
    return replace(snapshot, network=replace(snapshot.network, **changes))
