"""Snapshots in sentences."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.control.examples import (
    ACCESS,
    AWAITED,
    CLIENT,
    CLIENT_KEY,
    LINK,
    MAPPING,
    NOW,
    OTHER_KEY,
    PEER,
    RELAYED,
    SERVER,
    SERVER_KEY,
    STRANGER,
    WORDS,
    with_network,
    with_peer,
)
from toxproxy.control.findings import FindingKind, findings
from toxproxy.control.snapshots import (
    Admission,
    Advice,
    AllowanceSnapshot,
    ClientSnapshot,
    ListenerKind,
    ListenerSnapshot,
    ListenerState,
    NetworkPath,
    PathKind,
    PeerState,
    PongSnapshot,
    RelayReason,
    Snapshot,
)
from toxproxy.mapping.grant import Failure, Progress
from toxproxy.program.amounts import counted, duration, size
from toxproxy.program.report import (
    client_line,
    explanation,
    lines,
    listener_line,
    phase,
    pong_line,
    statuses,
    verdict,
    waits,
)
from toxproxy.tunnel.friend import Phase

OTHER = replace(PEER, key=OTHER_KEY)
REVERSE = ListenerSnapshot(
    name="web",
    kind=ListenerKind.REVERSE,
    address="127.0.0.1:8080",
    target="127.0.0.1:3000",
    peer_key=SERVER_KEY,
    connections=1,
    accepted=2,
    refused=3,
)


ALLOWANCE = AllowanceSnapshot(
    down_bytes_per_s=2_000_000,
    up_bytes_per_s=500_000,
    quota_bytes=50_000_000_000,
    used_bytes=12_000_000_000,
    expires_unix_s=None,
)


def test_a_clients_report() -> None:
    assert list(lines(CLIENT)) == [
        "Connected to the server, direct (23 ms).",
        "",
        "  server 5FDC96D23571: connected for 2 h 3 min, direct for 1 h, 23 ms (least 20), 0.2 % lost, "
        "3 connections, sent 12.0 MB (1.2 MB/s), received 340 MB",
        "",
        "  ssh: 127.0.0.1:2222 -> 127.0.0.1:22: 1 open, 7 in all, 2 refused",
        "  browser: 127.0.0.1:1080 (SOCKS and HTTP proxy): 1 open, 7 in all",
        "",
        "  Tox network: connected by UDP for 2 h 3 min, UDP port 33445, bootstrap nodes asked 4 times",
    ]


def test_what_a_client_may_is_in_its_line() -> None:
    told = "\n".join(lines(with_peer(SERVER, allowance=ALLOWANCE)))
    assert ", at most 2.0 MB/s to it and 500 kB/s from it, 12.0 GB of 50.0 GB used this month, " in told


def test_a_servers_report_with_what_v_adds() -> None:
    waiting = replace(SERVER, access=replace(ACCESS, waiting=(STRANGER,)))
    assert list(lines(waiting, verbose=True)) == [
        "1 client is connected; 1 client waits to be let in.",
        "",
        "  client laptop (4C4FDBAB2ED2): connected for 2 h 3 min, direct for 1 h, 23 ms (least 20), "
        "0.2 % lost, 3 connections, sent 12.0 MB (1.2 MB/s), received 340 MB",
        "    20 of 10000 packets lost, 350 kB of 700 kB on the way, queue 3 ms, cruise",
        "",
        "  Tox network: connected by UDP for 2 h 3 min, UDP port 33445, bootstrap nodes asked 4 times",
        "  router: not asked for a port ([tox] port_mapping)",
        "  toxproxy 0.1.0 with libtoxcore 0.2.18, process 4711",
        "  running for 1 d 1 h, state in /home/me/.local/state/toxproxy/client",
        f"  Tox ID {CLIENT_KEY}000000000000",
        f"  in words: {WORDS}",
        "  limits: 8192 connections a peer, 4096 a listener, 67.1 MB a peer, 1.1 GB in all",
        "",
        "1 client waits to be let in: toxproxy allow",
    ]


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (
            with_peer(CLIENT, RELAYED),
            "Connected to the server, through a relay (23 ms): no direct path was found.",
        ),
        (
            with_peer(CLIENT, RELAYED, relay_reason=RelayReason.UDP_BLOCKED),
            "Connected to the server, through a relay (23 ms): UDP is blocked here.",
        ),
        (with_peer(CLIENT, link=None), "Connected to the server, direct."),
        (with_peer(CLIENT, AWAITED), "Not connected: the server is off, or it has not let this client in."),
        (
            with_peer(CLIENT, AWAITED, state=PeerState.CONNECTING),
            "Not connected yet: the server is being connected.",
        ),
        (
            with_peer(CLIENT, state=PeerState.SILENT),
            "The server does not answer at the moment; its connections wait.",
        ),
        (with_peer(CLIENT, state=PeerState.OFFLINE), "Not connected: the server is gone."),
        (
            with_peer(CLIENT, AWAITED, state=PeerState.OFFLINE),
            "Not connected: the server is off, or not online.",
        ),
        (
            with_network(with_peer(CLIENT, AWAITED), path=NetworkPath.NONE),
            "Not connected: the Tox network was not found.",
        ),
        (
            replace(CLIENT, peers=(PEER, replace(OTHER, state=PeerState.OFFLINE))),
            "Connected to 1 of 2 servers.",
        ),
        (replace(SERVER, peers=()), "No client is connected."),
        (with_peer(SERVER, path=PathKind.RELAY), "1 client is connected, through a relay."),
        (
            replace(SERVER, peers=(PEER, replace(OTHER, path=PathKind.RELAY))),
            "2 clients are connected, 1 of them through a relay.",
        ),
        (
            with_network(replace(SERVER, peers=()), path=NetworkPath.NONE),
            "The server is not on the Tox network, so no client finds it.",
        ),
    ],
)
def test_the_verdict_is_one_sentence(snapshot: Snapshot, expected: str) -> None:
    assert verdict(snapshot) == expected


@pytest.mark.parametrize(
    ("snapshot", "expected"),
    [
        (CLIENT, (Phase.READY, "connected to the server, direct, 23 ms")),
        (
            with_peer(CLIENT, AWAITED, state=PeerState.CONNECTING, path=PathKind.RELAY),
            (Phase.LINKING, "the server found; connecting"),
        ),
        (
            with_network(with_peer(CLIENT, AWAITED, state=PeerState.CONNECTING), path=NetworkPath.NONE),
            (Phase.ABSENT, "looking for the Tox network"),
        ),
        (
            with_peer(CLIENT, AWAITED),
            (Phase.ABSENT, f'waiting to be allowed as "{WORDS}"'),
        ),
        (
            with_peer(CLIENT, state=PeerState.OFFLINE, ready=False, path=PathKind.UNKNOWN, streams=0),
            (Phase.ABSENT, "the server is gone; looking for it"),
        ),
        (
            with_peer(CLIENT, AWAITED, state=PeerState.OFFLINE),
            (Phase.ABSENT, "network found; looking for the server"),
        ),
        (
            with_peer(CLIENT, state=PeerState.OFFLINE, ready=False, path=PathKind.UNKNOWN, streams=1),
            (Phase.ABSENT, "the server is away; 1 connection waits for it"),
        ),
        (
            with_peer(CLIENT, state=PeerState.SILENT, ready=False, streams=2),
            (Phase.LINKING, "the server is away; 2 connections wait for it"),
        ),
        (
            with_peer(CLIENT, state=PeerState.SILENT),
            (Phase.READY, "connected to the server, direct, 23 ms"),  # until the link is given up
        ),
    ],
)
def test_the_status_line_of_a_client(snapshot: Snapshot, expected: tuple[Phase, str]) -> None:
    assert statuses(snapshot) == [expected]


def test_of_several_servers_each_is_named() -> None:
    two = replace(CLIENT, peers=(PEER, replace(OTHER, state=PeerState.SILENT, ready=False, streams=0)))
    assert [waits(two, peer) for peer in two.peers] == [
        "connected to server 5FDC96D23571, direct, 23 ms",
        "server 0123456789AB found; connecting",
    ]
    assert [phase(peer) for peer in two.peers] == [Phase.READY, Phase.LINKING]


@pytest.mark.parametrize(
    ("snapshot", "kind", "expected"),
    [
        (
            with_network(with_peer(CLIENT, path=PathKind.RELAY), path=NetworkPath.TCP),
            FindingKind.UDP_BLOCKED,
            "UDP does not get out here, so the path is a relay",
        ),
        (
            with_peer(CLIENT, RELAYED, relay_reason=RelayReason.NO_UDP_THERE),
            FindingKind.NO_UDP_THERE,
            "UDP works here, but not at the server: it is blocked there, or off ([tox] udp).",
        ),
        (
            with_peer(CLIENT, RELAYED),
            FindingKind.NO_DIRECT_PATH,
            "a NAT or firewall between them is strict. A port of either router that leads to",
        ),
        (with_peer(CLIENT, AWAITED), FindingKind.NOT_LET_IN, f"words are:\n\n  {WORDS}"),
        (
            with_peer(CLIENT, state=PeerState.OFFLINE),
            FindingKind.SERVER_GONE,
            "The server is off, or not online; 3 connections wait for it, for 10 min at most.",
        ),
        (
            with_peer(CLIENT, AWAITED, state=PeerState.OFFLINE),
            FindingKind.SERVER_GONE,
            f"It has let this client in before. If it does not any more, it waits for: toxproxy allow\n"
            f"This client's words are:\n\n  {WORDS}",
        ),
        (
            replace(CLIENT, end=replace(CLIENT.end, libtoxcore_advice=Advice.DOUBTFUL)),
            FindingKind.LIBRARY_DOUBTFUL,
            "libtoxcore 0.2.18 has a known hole",
        ),
    ],
)
def test_a_finding_is_told_in_the_report(snapshot: Snapshot, kind: FindingKind, expected: str) -> None:
    assert expected in "\n".join(lines(snapshot))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "router: its UDP port 203.0.113.5:33445 leads here, by PCP"),
        (
            {"public": False},
            "router: its UDP port 203.0.113.5:33445 leads here, by PCP; that is not public: another NAT "
            "is in front of it",
        ),
        ({"state": Progress.ASKING}, "router: asked for a port, no answer yet"),
        ({"state": Progress.NO_ROUTER}, "router: there is none to ask for a port"),
        ({"state": Progress.NOT_NEEDED}, "router: none is needed, this machine has a public address"),
        (
            {"state": Progress.FAILED, "failure": Failure.SILENT},
            "router: it leads no port here: it does not answer by PCP, NAT-PMP or UPnP",
        ),
        (
            {"state": Progress.FAILED, "failure": Failure.REFUSED},
            "router: it leads no port here: it refuses (by PCP)",
        ),
    ],
)
def test_the_port_of_the_router(changes: dict[str, object], expected: str) -> None:
    mapping = replace(MAPPING, **changes)
    assert f"  {expected}" in lines(with_network(CLIENT, mapping=mapping))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "web: 127.0.0.1:8080 at the server -> 127.0.0.1:3000: 1 open, 2 in all, 3 refused"),
        (
            {"state": ListenerState.WAITING, "target": None, "refused": 0},
            "web: 127.0.0.1:8080 at the server, which is not there -> (SOCKS and HTTP proxy): "
            "1 open, 2 in all",
        ),
        (
            {"kind": ListenerKind.FOR_CLIENT, "name": "laptop", "target": None, "refused": 0},
            "laptop: 127.0.0.1:8080 -> the client: 1 open, 2 in all",
        ),
    ],
)
def test_what_is_listened_on_at_the_server(changes: dict[str, Any], expected: str) -> None:
    assert listener_line(replace(REVERSE, **changes)) == expected


def test_why_the_server_does_not_listen() -> None:
    refused = replace(
        REVERSE, state=ListenerState.REFUSED, refusal="not_permitted", detail="not\x1bpermitted"
    )
    (finding,) = findings(replace(CLIENT, listeners=(refused,)))
    assert explanation(replace(CLIENT, listeners=(refused,)), finding) == (
        "The server does not listen for web, and is asked again: 'not\\x1bpermitted'"
    )


@pytest.mark.parametrize("kind", FindingKind)
@pytest.mark.parametrize("snapshot", [CLIENT, SERVER])
def test_every_finding_has_its_sentence(kind: FindingKind, snapshot: Snapshot) -> None:
    from toxproxy.control.findings import Finding

    told = explanation(snapshot, Finding(kind=kind, peer_key=SERVER_KEY, listener="ssh", count=2))
    assert told
    assert "None" not in told


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "4C4FDBAB2ED2: not seen yet, allowed by command"),
        ({"connected": True, "name": "laptop"}, "laptop (4C4FDBAB2ED2): connected, allowed by command"),
        (
            {"seen_unix_s": NOW - 86400, "sent_bytes": 5, "admission": Admission.SECRET},
            "4C4FDBAB2ED2: last seen 1 d ago (2027-01-14 08:00 UTC), sent 5 B, received 0 B, "
            "came by the secret",
        ),
        ({"admission": Admission.BLOCKED}, "4C4FDBAB2ED2: blocked"),
        (
            {"expires_unix_s": NOW + 60},
            "4C4FDBAB2ED2: not seen yet, allowed by command, until 2027-01-15 08:01 UTC",
        ),
        (
            {"expires_unix_s": NOW - 60, "admission": Admission.EXPIRED},
            "4C4FDBAB2ED2: not seen yet, its time is over",
        ),
        (
            {"admission": Admission.CONFIGURED, "allowance": ALLOWANCE},
            "4C4FDBAB2ED2: not seen yet, allowed in the configuration, at most 2.0 MB/s to it and 500 kB/s "
            "from it, 12.0 GB of 50.0 GB used this month, 38.0 GB left",
        ),
        (
            {"allowance": replace(ALLOWANCE, down_bytes_per_s=500_000, used_bytes=50_000_000_001)},
            "4C4FDBAB2ED2: not seen yet, allowed by command, at most 500 kB/s, "
            "50.0 GB of 50.0 GB used this month, none left",
        ),
    ],
)
def test_one_client_of_a_server(changes: dict[str, object], expected: str) -> None:
    client = ClientSnapshot(
        key=CLIENT_KEY,
        name=None,
        words=WORDS,
        admission=Admission.COMMAND,
        connected=False,
        seen_unix_s=None,
        expires_unix_s=None,
        sent_bytes=0,
        received_bytes=0,
    )
    client = replace(client, **changes)
    assert client_line(client, NOW) == expected
    assert client_line(client, NOW, verbose=True) == f"{expected}\n  {CLIENT_KEY}\n  {WORDS}"


@pytest.mark.parametrize(
    ("state", "rtt_ms", "expected"),
    [
        (PeerState.CONNECTED, 12.34, "5FDC96D23571: 12.3 ms, direct"),
        (PeerState.CONNECTED, None, "5FDC96D23571: no answer"),
        (PeerState.OFFLINE, None, "5FDC96D23571: no answer, offline"),
    ],
)
def test_one_ping(state: PeerState, rtt_ms: float | None, expected: str) -> None:
    assert (
        pong_line(PongSnapshot(peer_key=SERVER_KEY, state=state, path=PathKind.DIRECT, rtt_ms=rtt_ms))
        == expected
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3661, "1 h 1 min"),
        (3605, "1 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (123_456, "123 kB"),
     (999_600, "1.0 MB"),
     (1.5e9, "1.5 GB"), (2.5e15, "2500.0 TB")],
)  # fmt: skip
def test_sizes(count: float, expected: str) -> None:
    assert size(count) == expected


def test_counts() -> None:
    assert [counted(n, "time") for n in (0, 1, 2)] == ["0 times", "1 time", "2 times"]
    assert LINK.phase.value == "cruise"
