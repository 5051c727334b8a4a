"""What explains a situation."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.control.examples import (
    ACCESS,
    AWAITED,
    CLIENT,
    FORWARD,
    LINK,
    NOW,
    RELAYED,
    SERVER,
    STRANGER,
    with_network,
    with_peer,
)
from toxproxy.control.findings import FindingKind, findings
from toxproxy.control.snapshots import Advice, AuditSnapshot, NetworkPath, PeerState, RelayReason, Snapshot

K = FindingKind


def kinds(snapshot: Snapshot) -> list[FindingKind]:
    return [finding.kind for finding in findings(snapshot)]


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (CLIENT, []),
        (SERVER, []),
        (with_network(CLIENT, path=NetworkPath.NONE), [K.NETWORK_NOT_FOUND]),
        (with_peer(CLIENT, RELAYED), [K.NO_DIRECT_PATH]),
        (with_peer(CLIENT, RELAYED, relay_reason=RelayReason.SEARCHING), [K.PATH_SEARCHED]),
        (with_peer(CLIENT, RELAYED, relay_reason=RelayReason.NO_UDP_THERE), [K.NO_UDP_THERE]),
        (with_peer(SERVER, RELAYED, state=PeerState.SILENT), [K.PEER_SILENT]),
        (with_peer(CLIENT, AWAITED), [K.NOT_LET_IN]),
        (with_peer(CLIENT, state=PeerState.SILENT), [K.PEER_SILENT]),
        (with_peer(CLIENT, state=PeerState.OFFLINE), [K.SERVER_GONE]),
        (with_peer(SERVER, state=PeerState.OFFLINE), []),
        (with_peer(CLIENT, link=replace(LINK, loss_share=0.08)), [K.MUCH_LOSS]),
        (with_peer(CLIENT, link=replace(LINK, loss_share=0.08, sent_packets=20)), []),
        (replace(SERVER, access=replace(ACCESS, waiting=(STRANGER,))), [K.CLIENTS_WAIT]),
        (replace(SERVER, access=replace(ACCESS, admitted=0)), [K.NOBODY_ALLOWED]),
        (replace(SERVER, access=replace(ACCESS, admitted=0, secret=True)), []),
        (replace(SERVER, access=replace(ACCESS, admitted=0, anyone=True)), []),
        (replace(SERVER, audit=AuditSnapshot(file="/var/log/audit", lost=3)), [K.AUDIT_NOT_WRITTEN]),
        (replace(SERVER, audit=AuditSnapshot(file=None, lost=0)), []),
        (replace(CLIENT, listeners=(replace(FORWARD, connections=4096),)), [K.LISTENER_FULL]),
        (replace(CLIENT, end=replace(CLIENT.end, libtoxcore_advice=Advice.DOUBTFUL)), [K.LIBRARY_DOUBTFUL]),
    ],
)
def test_each_situation_is_recognised(snapshot: Snapshot, expected: list[FindingKind]) -> None:
    assert kinds(snapshot) == expected


def test_udp_that_does_not_get_out_explains_a_relay() -> None:
    relayed = with_peer(CLIENT, RELAYED, relay_reason=RelayReason.UDP_BLOCKED)
    blocked = with_network(relayed, path=NetworkPath.TCP)
    assert kinds(blocked) == [K.UDP_BLOCKED]
    assert kinds(with_network(relayed, udp_silent_s=3.5)) == [K.UDP_BLOCKED]
    assert kinds(with_network(blocked, udp_port=None)) == [K.UDP_OFF]


def test_tcp_in_the_first_seconds_says_nothing_about_udp() -> None:
    relayed = with_peer(CLIENT, RELAYED, relay_reason=RelayReason.SEARCHING)
    fresh = with_network(relayed, path=NetworkPath.TCP, since_unix_s=NOW - 3)
    assert kinds(fresh) == [K.PATH_SEARCHED]


def test_a_direct_path_shows_that_udp_gets_out() -> None:
    assert kinds(with_network(CLIENT, path=NetworkPath.TCP)) == []
    assert kinds(with_network(CLIENT, udp_silent_s=60.0)) == []


def test_with_nodes_of_a_local_network_nothing_is_said_about_udp() -> None:
    assert kinds(with_network(CLIENT, path=NetworkPath.LOCAL)) == []


def test_where_the_network_is_lost_the_server_is_not_called_gone() -> None:
    lost = with_network(with_peer(CLIENT, state=PeerState.OFFLINE), path=NetworkPath.NONE)
    assert kinds(lost) == [K.NETWORK_NOT_FOUND]
