"""What a dashboard made for Clash sees of an end, and can do."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import aiohttp
import pytest

from tests.web.clash import Dashboard
from tests.web.site import CHUNK, PATIENCE, PAUSE, SECRET, Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

RATE = CHUNK / PAUSE


@pytest.fixture
def dashboard(site: Site) -> Dashboard:
    return Dashboard(site.http, site.client_page, SECRET)


async def test_it_is_recognised(site: Site, dashboard: Dashboard) -> None:
    status, hello = await dashboard.request("GET", "/")
    assert (status, hello) == (200, {"hello": "clash"})  # yacd asks for this before it adds a backend
    status, version = await dashboard.request("GET", "/version")
    assert status == 200
    assert version["version"].startswith("toxproxy ")


async def test_a_wrong_secret_is_an_answer_that_it_can_read(site: Site) -> None:
    status, body = await Dashboard(site.http, site.client_page, "wrong").request("GET", "/version")
    assert (status, "message" in body) == (401, True)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
        await Dashboard(site.http, site.client_page, "wrong").messages("/traffic", 1)


async def test_a_cookie_does_not_open_a_web_socket_for_another_page(site: Site) -> None:
    got = await site.ask("/login", method="POST", secret=None, json={"secret": SECRET})
    headers = {"Cookie": got.headers["Set-Cookie"].partition(";")[0]}
    url = site.client_page.replace("http:", "ws:") + "/traffic"
    async with site.http.ws_connect(url, headers=headers, origin=site.client_page) as socket:
        await socket.receive_json(timeout=PATIENCE)
    for origin in ("https://dashboard.example", "http://127.0.0.1:1"):
        with pytest.raises(aiohttp.WSServerHandshakeError, match="401"):
            await site.http.ws_connect(url, headers=headers, origin=origin)


async def test_configs_have_the_port(site: Site, dashboard: Dashboard) -> None:
    status, configs = await dashboard.request("GET", "/configs")
    assert status == 200
    assert configs["mixed-port"] == site.forward("browser")[1]
    assert configs["mode"] == "rule"
    assert (await dashboard.request("PATCH", "/configs", json={"mode": "global"}))[0] == 400


async def test_peers_are_proxies(site: Site, dashboard: Dashboard) -> None:
    status, body = await dashboard.request("GET", "/proxies")
    assert status == 200
    proxies = body["proxies"]
    (name,) = proxies["GLOBAL"]["all"]
    assert proxies["GLOBAL"]["now"] == name
    assert proxies[name]["alive"]
    assert proxies[name]["history"][-1]["delay"] >= 1
    assert (await dashboard.request("GET", f"/proxies/{name}"))[1]["name"] == name
    path = f"/proxies/{name}/delay?timeout=5000&url=http%3A%2F%2Fwww.gstatic.com%2Fgenerate_204"
    status, delay = await dashboard.request("GET", path)
    assert (status, 1 <= delay["delay"] < 5000) == (200, True)
    assert (await dashboard.request("GET", "/proxies/nonsense/delay"))[0] == 404
    status, delays = await dashboard.request("GET", "/group/GLOBAL/delay?timeout=nonsense")
    assert (status, list(delays)) == (200, [name])
    assert (await dashboard.request("PUT", "/proxies/GLOBAL", json={"name": name}))[0] == 400
    for kind in ("proxies", "rules"):
        assert (await dashboard.request("GET", f"/providers/{kind}"))[1] == {"providers": {}}


async def test_rules_are_the_server_s_and_the_client_s_listeners(site: Site, dashboard: Dashboard) -> None:
    server = Dashboard(site.http, site.server_page, SECRET)
    rules = (await server.request("GET", "/rules"))[1]["rules"]
    assert [(rule["type"], rule["payload"], rule["proxy"]) for rule in rules] == [
        ("Deny", "127.0.0.1/32:9", "REJECT"),
        ("Permit", "127.0.0.1/32:*", "DIRECT"),
    ]
    rules = (await dashboard.request("GET", "/rules"))[1]["rules"]
    assert [rule["type"] for rule in rules] == ["Proxy", "Forward", "Forward"]


async def test_traffic_and_connections_of_a_running_download(site: Site, dashboard: Dashboard) -> None:
    reader, writer = await asyncio.open_connection(*site.forward("flow"))
    reading = asyncio.create_task(drained(reader))
    try:
        await asyncio.sleep(1)
        await dashboard.messages("/traffic", 1)
        traffic = await dashboard.messages("/traffic", 4)
        assert traffic[-1]["down"] == pytest.approx(RATE, rel=0.3)
        assert set(traffic[-1]) >= {"up", "down"}
        assert (await dashboard.lines("/traffic", 2))[-1]["down"] > 0
        first, last = await dashboard.messages("/connections", 2)
        (connection,) = last["connections"]
        before = first["connections"][0]["download"]
        assert 0 < connection["download"] - before < 10 * RATE
        assert last["downloadTotal"] >= connection["download"]
        host, port = connection["metadata"]["host"], connection["metadata"]["destinationPort"]
        listener = next(each for each in site.client.status().listeners if each.name == "flow")
        assert f"{host}:{port}" == listener.target
        assert connection["metadata"]["network"] == "tcp"
        assert (
            connection["chains"]
            == (await dashboard.request("GET", "/proxies"))[1]["proxies"]["GLOBAL"]["all"]
        )
        datetime.fromisoformat(connection["start"])
        server = Dashboard(site.http, site.server_page, SECRET)
        (of_server,) = (await server.request("GET", "/connections"))[1]["connections"]
        assert of_server["download"] > of_server["upload"]
    finally:
        reading.cancel()
        writer.transport.abort()
        await site.idle()


async def drained(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


async def test_exactly_the_connection_that_is_deleted_ends(site: Site, dashboard: Dashboard) -> None:
    async with site.talking() as (reader, _), site.talking() as (other, writer):
        first, second = (await dashboard.request("GET", "/connections"))[1]["connections"][-2:]
        assert (await dashboard.request("DELETE", f"/connections/{first['id']}"))[0] == 204
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), PATIENCE)
        writer.write(b"still")
        assert await asyncio.wait_for(other.readexactly(5), PATIENCE) == b"still"
        assert (await dashboard.request("DELETE", f"/connections/{first['id']}"))[0] == 404
        left = (await dashboard.request("GET", "/connections"))[1]["connections"]
        assert [each["id"] for each in left] == [second["id"]]


async def test_all_connections_are_closed(site: Site, dashboard: Dashboard) -> None:
    async with site.talking() as (reader, _), site.talking() as (other, _):
        assert (await dashboard.request("DELETE", "/connections"))[0] == 204
        for each in (reader, other):
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(each.read(), PATIENCE)
        assert (await dashboard.request("GET", "/connections"))[1]["connections"] == []


# What the dashboards read, and of which type: `src/api` of yacd d37a1ff, `packages/ui/types` and `stores` of
# metacubexd c4622599. What a type has beyond that is read with a default there.
METADATA = {
    **dict.fromkeys(("network", "type", "host", "sourceIP", "sourcePort", "destinationIP"), str),
    **dict.fromkeys(("destinationPort", "dnsMode", "process", "processPath", "remoteDestination"), str),
    **dict.fromkeys(("inboundIP", "inboundPort", "inboundName", "inboundUser", "sniffHost"), str),
    **dict.fromkeys(("specialProxy", "specialRules"), str),
}
CONNECTION = {"id": str, "upload": int, "download": int, "start": str, "rule": str, "rulePayload": str}
PROXY = {"name": str, "type": str, "history": list, "udp": bool, "xudp": bool, "tfo": bool, "extra": dict}
GROUP = {**PROXY, "now": str, "all": list}
CONFIGS = {
    "mode": str,
    "port": int,
    "socks-port": int,
    "redir-port": int,
    "tproxy-port": int,
    "mixed-port": int,
}
CONFIGS |= {"allow-lan": bool, "log-level": str}


def has(value: object, fields: dict[str, type]) -> bool:
    """Whether each of these fields is there and of its type."""
    assert isinstance(value, dict)
    return {name: type(value.get(name)) for name in fields} == fields


async def test_what_yacd_and_metacubexd_read_at_their_start_is_there(
    site: Site, dashboard: Dashboard
) -> None:
    asked = ("/version", "/configs", "/proxies", "/providers/proxies", "/providers/rules", "/rules")
    got = [(await dashboard.request("GET", path)) for path in asked]
    assert [status for status, _ in got] == [200] * len(asked)
    version, configs, proxies, providers, rule_providers, rules = (body for _, body in got)
    assert has(version, {"version": str, "meta": bool, "premium": bool})
    assert has(configs, CONFIGS)
    assert all(has(each, GROUP if "all" in each else PROXY) for each in proxies["proxies"].values())
    assert all(each["name"] == name for name, each in proxies["proxies"].items())
    assert has(providers, {"providers": dict})
    assert has(rule_providers, {"providers": dict})
    assert rules["rules"]
    assert all(has(each, {"type": str, "payload": str, "proxy": str, "size": int}) for each in rules["rules"])
    async with site.talking():
        (told,) = await dashboard.messages("/connections", 1)
    assert has(told, {"uploadTotal": int, "downloadTotal": int, "connections": list})
    for each in told["connections"]:
        assert has(each, CONNECTION)
        assert each["chains"]
        assert has(each["metadata"], METADATA)
    assert has((await dashboard.messages("/traffic", 1))[0], {"up": int, "down": int})
    assert has((await dashboard.messages("/memory", 1))[0], {"inuse": int})


async def test_memory(dashboard: Dashboard) -> None:
    (memory,) = await dashboard.messages("/memory", 1)
    assert 10_000_000 < memory["inuse"] < 2_000_000_000


async def test_the_log_by_level(dashboard: Dashboard) -> None:
    logging.getLogger("toxproxy.test").warning("something \x1b[31mred\n happened")
    lines = await dashboard.messages("/logs", 1, level="warning")
    while not lines[-1]["payload"].startswith("something"):  # the program may warn of something, too
        lines = await dashboard.messages("/logs", len(lines) + 1, level="warning")
    assert lines[-1] == {"type": "warning", "payload": "something \\x1b[31mred\\n happened"}
