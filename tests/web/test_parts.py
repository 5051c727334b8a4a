"""The parts that need no port: samples, lines of the log, the proxy file, rules as they are written."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from tests.control.examples import OTHER_KEY, PEER, SERVER
from toxproxy.control.snapshots import (
    AllowanceSnapshot,
    EndRole,
    ListenerKind,
    ListenerSnapshot,
    PeerSnapshot,
)
from toxproxy.rules import parse_rule
from toxproxy.web import history, pac
from toxproxy.web.clash import connection, shown
from toxproxy.web.history import History
from toxproxy.web.journal import MOST, Journal
from toxproxy.web.metrics import exposition


def listener(address: str, kind: ListenerKind = ListenerKind.PROXY) -> ListenerSnapshot:
    return ListenerSnapshot(
        name="x", kind=kind, address=address, target=None, peer_key="", connections=0, accepted=0, refused=0
    )


@pytest.mark.parametrize(
    ("addresses", "line"),
    [
        ([], "DIRECT"),
        (["127.0.0.1:1080"], "SOCKS5 127.0.0.1:1080; PROXY 127.0.0.1:1080"),
        (["0.0.0.0:1080"], "SOCKS5 192.0.2.7:1080; PROXY 192.0.2.7:1080"),
        (["[::1]:1080"], "SOCKS5 [::1]:1080; PROXY [::1]:1080"),
    ],
)
def test_the_proxy_file_names_the_proxy_ports(addresses: list[str], line: str) -> None:
    listeners = [listener("127.0.0.1:22", ListenerKind.FORWARD), *map(listener, addresses)]
    assert f'return "{line}";' in pac.proxies(listeners, "192.0.2.7")


@pytest.mark.parametrize("rule", ["*:*", "*.lan:80-89", "10.0.0.0/8:22", "[2001:db8::/32]:443", "private:*"])
def test_a_rule_is_shown_as_it_is_written(rule: str) -> None:
    assert shown(parse_rule(rule)) == rule


def test_what_clients_may_is_measured() -> None:
    laptop = AllowanceSnapshot(
        down_bytes_per_s=None, up_bytes_per_s=None, quota_bytes=50, used_bytes=12, expires_unix_s=1800000000.0
    )
    peers = (replace(PEER, name="laptop", allowance=laptop), replace(PEER, key=OTHER_KEY))
    text = exposition(replace(SERVER, peers=peers)).decode()
    values = [line for line in text.splitlines() if line.startswith("toxproxy_client_")]
    label = f'{{name="laptop",peer="{PEER.key[:12]}"}}'
    assert values == [
        f"toxproxy_client_quota_bytes{label} 50.0",
        f"toxproxy_client_quota_used_bytes{label} 12.0",
        f"toxproxy_client_expires_time_seconds{label} 1.8e+09",
    ]


def test_the_journal_keeps_the_last_lines_and_escapes_them() -> None:
    journal, log = Journal(), logging.getLogger("toxproxy.test_parts")
    log.addHandler(journal)
    try:
        for number in range(MOST + 5):
            log.warning("line %d\x1b", number)
        log.warning("x" * 5000)
    finally:
        log.removeHandler(journal)
    lines = journal.since(0)
    assert len(lines) == MOST
    assert (lines[-2].text, lines[-2].level) == (f"line {MOST + 4}\\x1b", "warning")
    assert len(lines[-1].text) == 1000
    assert journal.since(lines[-2].number) == [lines[-1]]


def peers(count: int) -> list[PeerSnapshot]:
    return [replace(PEER, key=f"{number:064X}", ready=number % 2 == 0) for number in range(count)]


async def test_samples_are_taken_while_somebody_looks_and_a_while_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "SECONDS", 2)
    kept = History(lambda: peers(1))
    assert not kept.running
    kept.looked()
    await asyncio.sleep(0.1)
    assert kept.running
    assert len(kept.encoded()["peers"]) == 1  # type: ignore[index]
    async with asyncio.timeout(10):
        while kept.running:
            await asyncio.sleep(0.1)
    assert kept.encoded() == {"peers": {}}
    kept.looked()
    assert kept.running
    await kept.close()
    assert not kept.running


async def test_at_most_64_peers_are_sampled_and_those_first_that_are_there() -> None:
    kept = History(lambda: peers(100))
    kept.looked()
    await asyncio.sleep(0.05)
    sampled = kept.encoded()["peers"]  # type: ignore[index]
    await kept.close()
    assert len(sampled) == 64
    assert all(peer.key in sampled for peer in peers(100) if peer.ready)


def test_a_flow_of_datagrams_is_a_connection_of_udp() -> None:
    stream = {"id": "1", "target": "[::1]:53/udp", "sent_bytes": 1, "received_bytes": 2, "age_s": 3}
    told = connection(stream, EndRole.CLIENT, "peer", 1e9)["metadata"]
    assert isinstance(told, dict)
    assert (told["network"], told["host"], told["destinationPort"]) == ("udp", "::1", "53")
