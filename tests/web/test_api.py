"""/api/v1 and what needs no secret, over HTTP."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

import pytest

from tests.web.site import PATIENCE, SECRET, Site
from toxproxy.control.encoding import decoded
from toxproxy.control.snapshots import Snapshot

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_status_is_what_the_control_socket_says(site: Site) -> None:
    got = await site.ask("/api/v1/status")
    assert got.status == 200
    result = json.loads(got.text)["result"]
    snapshot = decoded(Snapshot, result)
    assert snapshot.end.tox_id == str(site.client.node.tox_id)
    assert [peer.state.value for peer in snapshot.peers] == ["connected"]
    assert "findings" in result


async def test_a_stream_is_listed_and_exactly_that_one_is_closed(site: Site) -> None:
    async with site.talking() as (reader, _), site.talking() as (other, writer):
        got = await site.ask("/api/v1/streams")
        first, second = json.loads(got.text)["result"]["streams"][-2:]
        done = await site.ask("/api/v1/close", method="POST", json={"id": first["id"]})
        assert json.loads(done.text)["result"]["id"] == first["id"]
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.write(b"still")
        assert await asyncio.wait_for(other.readexactly(5), PATIENCE) == b"still"
        assert [each["id"] for each in await site.streams()] == [second["id"]]


async def test_a_ping_measures_a_round_trip(site: Site) -> None:
    got = await site.ask("/api/v1/ping", method="POST", json={"count": 2, "interval_s": 0.2})
    pongs = json.loads(got.text)["result"]
    assert len(pongs) == 2
    assert all(0 < pong["rtt_ms"] < 5000 for pong in pongs)


async def test_a_checkup_is_told_in_sentences_too(site: Site) -> None:
    got = json.loads((await site.ask("/api/v1/checkup", method="POST")).text)["result"]
    assert {check["kind"] for check in got["checks"]} >= {"peer", "router", "targets", "clock", "quality"}
    assert got["healthy"] is True
    assert got["sentences"][0].startswith("Everything works")
    assert any(line.startswith("  ok     other end") for line in got["sentences"])


async def test_a_speed_test_is_answered_when_it_is_over(site: Site) -> None:
    got = json.loads((await site.ask("/api/v1/speedtest", method="POST", json={"seconds": 2})).text)["result"]
    assert got["phase"] == "finished"
    assert got["download"]["bytes_per_s"] > 0
    assert got["sentences"][0].startswith("Server ")
    there = await site.ask("/api/v1/speedtest", method="POST", page=site.server_page)
    assert there.status == 404


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("close", b'{"id": "nonsense"}', 400, "bad_params"),
        ("close", b'{"id": 1}', 400, "bad_params"),
        ("close", b"[]", 400, "malformed"),
        ("close", b"[" * 4000, 400, "malformed"),
        ("ping", b'{"count": 0}', 400, "bad_params"),
        ("ping", b'{"count": [1]}', 400, "bad_params"),
        ("allow", b"{}", 404, "unknown_method"),
    ],
)
async def test_a_wrong_order_is_told_what_was_expected(
    site: Site, method: str, body: bytes, status: int, code: str
) -> None:
    got = await site.ask(f"/api/v1/{method}", method="POST", data=body)
    assert (got.status, json.loads(got.text)["error"]["code"]) == (status, code)


async def test_a_body_that_is_too_large_is_refused(site: Site) -> None:
    got = await site.ask("/api/v1/close", method="POST", data=b" " * 5000)
    assert got.status == 413


async def test_the_clients_of_a_server_and_who_waits(site: Site) -> None:
    clients = json.loads((await site.ask("/api/v1/clients", page=site.server_page)).text)["result"]["clients"]
    assert site.client.node.public_key.hex().upper() in [each["key"] for each in clients]
    waiting = json.loads((await site.ask("/api/v1/waiting", page=site.server_page)).text)["result"]["waiting"]
    assert [each["key"] for each in waiting] == [site.stranger.node.public_key.hex().upper()]


async def test_events_tell_the_state_each_second_and_the_log(site: Site) -> None:
    headers = {"Authorization": f"Bearer {SECRET}"}
    seen: list[tuple[str, object]] = []
    async with site.http.get(f"{site.client_page}/api/v1/events", headers=headers) as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        name = ""
        async with asyncio.timeout(PATIENCE):
            async for raw in response.content:
                line = raw.decode().strip()
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    seen.append((name, json.loads(line.removeprefix("data: "))))
                if [name for name, _ in seen].count("status") == 2:
                    break
    assert {name for name, _ in seen} == {"status", "log"}
    told = next(value for name, value in seen if name == "status")
    assert isinstance(told, dict)
    assert told["verdict"].startswith("Connected to the server, direct")
    lines = next(value for name, value in seen if name == "log")
    assert isinstance(lines, list)
    assert any("the page about this end" in line["text"] for line in lines)


async def test_samples_of_the_last_ten_minutes(site: Site) -> None:
    await site.ask("/api/v1/history")
    await asyncio.sleep(2.5)
    history = json.loads((await site.ask("/api/v1/history")).text)["result"]["peers"]
    (column,) = history.values()
    assert len(column["unix_s"]) == len(column["received_bytes"]) >= 2
    assert column["rtt_us"][-1] > 0


async def test_what_needs_no_secret(site: Site) -> None:
    assert (await site.ask("/healthz", secret=None)).status == 200
    assert (await site.ask("/ready", secret=None)).status == 200
    pac = await site.ask("/proxy.pac", secret=None)
    host, port = site.forward("browser")
    assert pac.headers["Content-Type"].startswith("application/x-ns-proxy-autoconfig")
    assert f'return "SOCKS5 {host}:{port}; PROXY {host}:{port}";' in pac.text


async def test_a_server_has_no_proxy_port(site: Site) -> None:
    assert 'return "DIRECT";' in (await site.ask("/proxy.pac", page=site.server_page, secret=None)).text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="this system has no promtool")
@pytest.mark.parametrize("role", ["server", "client"])
async def test_promtool_accepts_the_metrics(site: Site, role: str) -> None:
    async with site.talking():
        got = await site.ask("/metrics", page=getattr(site, f"{role}_page"))
    assert got.status == 200
    done = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=got.text.encode(), capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def test_the_metrics_are_the_snapshot_s_values(site: Site) -> None:
    text = (await site.ask("/metrics")).text
    (peer,) = site.client.peers()
    label = f'{{name="",peer="{peer.key[:12]}"}}'
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(values[f"toxproxy_peer_received_bytes_total{label}"]) == peer.traffic.received_bytes
    assert 0 < float(values[f"toxproxy_peer_rtt_seconds{label}"]) < 5
    assert values[f'toxproxy_peer_state{{name="",peer="{peer.key[:12]}",state="connected"}}'] == "1.0"
