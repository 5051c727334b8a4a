"""Who is answered, and who is not."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.alone import ALONE
from tests.web.site import SECRET, Site
from toxproxy import config
from toxproxy.app.server import Server
from toxproxy.system.state import StateFolder
from toxproxy.web import server as web_server
from toxproxy.web.server import WebServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

READ = ["status", "streams", "clients", "waiting", "history", "log", "events"]
ORDERS = ["close", "allow", "ignore", "revoke", "block", "reload", "ping", "checkup", "speedtest"]
CLASH = [
    "version",
    "traffic",
    "memory",
    "connections",
    "proxies",
    "group/GLOBAL/delay",
    "rules",
    "logs",
    "configs",
]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1]])
async def test_nothing_is_told_without_the_secret(site: Site, secret: str | None) -> None:
    (path,) = ["/api/v1/status"]
    got = await site.ask(path, secret=secret)
    assert (got.status, "peers" in got.text) == (401, False)


async def test_every_other_path_wants_the_secret_as_well(site: Site) -> None:
    paths = [*(f"/api/v1/{name}" for name in READ), *(f"/{name}" for name in CLASH), "/metrics", "/nonsense"]
    for path in paths:
        assert (await site.ask(path, secret=None)).status == 401, path
    for name in ORDERS:
        assert (await site.ask(f"/api/v1/{name}", method="POST", secret=None, json={})).status == 401, name
    assert (await site.ask("/connections", method="DELETE", secret=None)).status == 401


async def test_a_token_in_the_address_is_for_web_sockets_alone(site: Site) -> None:
    assert (await site.ask(f"/connections?token={SECRET}", secret=None)).status == 401


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:9090", "", "a@127.0.0.1", "[evil]"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/api/v1/status", "/login"])
async def test_another_name_is_refused(site: Site, host: str, path: str) -> None:
    assert (await site.ask(path, headers={"Host": host})).status == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:9090", "192.0.2.1:80"])
async def test_an_address_and_localhost_are_taken(site: Site, host: str) -> None:
    assert (await site.ask("/api/v1/status", headers={"Host": host})).status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://[", "file://"]
)
@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/close", "/login", "/metrics", "/proxy.pac"])
async def test_a_page_from_elsewhere_is_refused_with_the_secret_as_well(
    site: Site, origin: str, path: str
) -> None:
    method = "POST" if path in ("/api/v1/close", "/login") else "GET"
    got = await site.ask(path, method=method, headers={"Origin": origin})
    assert got.status == 403
    assert "Access-Control-Allow-Origin" not in got.headers


async def test_a_request_without_a_path_is_no_failure_of_the_program(site: Site) -> None:
    host, _, port = site.client_page.removeprefix("http://").rpartition(":")
    for line in (b"OPTIONS *", b"GET //connections", b"GET http://127.0.0.1/"):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            line + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n"
        )
        got = await asyncio.wait_for(reader.read(), 5)
        assert got.split()[1] in (b"400", b"401", b"403", b"404")
        writer.close()


@pytest.mark.parametrize("site_of", ["cross-site", "same-site"])
async def test_what_another_page_embeds_is_refused(site: Site, site_of: str) -> None:
    got = await site.ask("/api/v1/status", headers={"Sec-Fetch-Site": site_of})
    assert got.status == 403


async def logged_in(site: Site) -> str:
    got = await site.ask("/login", method="POST", secret=None, json={"secret": SECRET})
    assert got.status == 200
    cookie = str(got.headers["Set-Cookie"])
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert SECRET not in cookie
    return cookie.partition(";")[0]


async def test_a_cookie_stands_for_the_secret_until_somebody_logs_out(site: Site) -> None:
    cookie = await logged_in(site)
    got = await site.ask("/api/v1/status", secret=None, headers={"Cookie": cookie})
    assert got.status == 200
    own = {"Cookie": cookie, "Origin": site.client_page}
    body = {"id": "nonsense"}
    assert (await site.ask("/api/v1/close", method="POST", secret=None, headers=own, json=body)).status == 400
    assert (await site.ask("/logout", method="POST", secret=None, headers=own, json={})).status == 200
    assert (await site.ask("/api/v1/status", secret=None, headers={"Cookie": cookie})).status == 401


@pytest.mark.parametrize("origin", [None, "http://evil.example", "http://127.0.0.1:1", "null"])
async def test_a_cookie_orders_nothing_for_another_page(site: Site, origin: str | None) -> None:
    headers = {"Cookie": await logged_in(site)} | ({} if origin is None else {"Origin": origin})
    got = await site.ask("/api/v1/close", method="POST", secret=None, headers=headers, json={"id": "x"})
    assert got.status == 403
    closing = await site.ask("/connections", method="DELETE", secret=None, headers=headers)
    assert closing.status == (401 if origin else 403)


async def test_a_login_with_a_wrong_secret_or_none(site: Site) -> None:
    for body in ({"secret": "wrong"}, {"secret": None}, {}):
        got = await site.ask("/login", method="POST", secret=None, json=body)
        assert (got.status, "Set-Cookie" in got.headers) == (401, False)


async def test_a_login_that_is_no_json(site: Site) -> None:
    assert (await site.ask("/login", method="POST", secret=None, data=b"{")).status == 400
    assert (await site.ask("/login", method="POST", secret=None, data=b"[1]")).status == 400


async def test_wrong_secrets_have_to_wait_and_the_right_one_gets_through(site: Site) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(4):
        assert (await site.ask("/api/v1/status", secret="wrong")).status in (401, 429)
    assert loop.time() - began > 1.0
    assert (await site.ask("/api/v1/status")).status == 200


async def test_a_browser_runs_nothing_but_the_page_s_own_script(site: Site) -> None:
    page = await site.ask("/", secret=None, headers={"Accept": "text/html"})
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert " on" not in "".join(
        part.partition(">")[0] for part in page.text.partition("<script>")[0].split("<")
    )
    for banned in ("innerHTML", "insertAdjacentHTML", "document.write", "eval(", "://cdn", "src="):
        assert banned not in page.text
    assert page.text.count("<link") == page.text.count('<link rel="icon" href="data:,">')
    for path in ("/api/v1/status", "/", "/nonsense"):
        headers = (await site.ask(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


# Without a secret


@asynccontextmanager
async def open_page(folder: Path) -> AsyncIterator[str]:
    settings = config.parse(f"{ALONE}[web]\nlisten = 127.0.0.1:0\n", "server.ini")
    assert settings.web is not None
    async with (
        Server(settings, StateFolder(folder)) as server,
        WebServer(server, settings.web) as ready,
    ):
        (address,) = ready["web"]  # type: ignore[misc]
        yield f"http://{address}"


async def test_without_a_secret_there_is_much_to_see_and_nothing_to_order(site: Site, tmp_path: Path) -> None:
    async with open_page(tmp_path) as page:
        assert (await site.ask("/api/v1/status", page=page, secret=None)).status == 200
        for name in ORDERS:
            got = await site.ask(f"/api/v1/{name}", method="POST", page=page, secret=None, json={"key": "x"})
            assert (got.status, json.loads(got.text)["error"]["code"]) == (403, "no_secret")
        assert (await site.ask("/connections", method="DELETE", page=page, secret=None)).status == 403
        foreign = {"Origin": "http://evil.example"}
        for path in ("/connections", "/version", "/"):
            assert (await site.ask(path, page=page, secret=None, headers=foreign)).status == 403
        got = await site.ask("/version", method="OPTIONS", page=page, secret=None, headers=foreign)
        assert (got.status, "Access-Control-Allow-Origin" in got.headers) == (403, False)
        assert (
            await site.ask("/login", method="POST", page=page, secret=None, json={"secret": ""})
        ).status == 401


# Bounds


async def test_one_connection_too_many_is_closed_at_once(site: Site, tmp_path: Path) -> None:
    async with open_page(tmp_path) as page:
        host, _, port = page.removeprefix("http://").rpartition(":")
        held = [await asyncio.open_connection(host, int(port)) for _ in range(web_server.CONNECTIONS)]
        reader, writer = await asyncio.open_connection(host, int(port))
        assert await asyncio.wait_for(reader.read(), 5) == b""
        for _, each in [*held, (reader, writer)]:
            each.close()
        await asyncio.sleep(0.2)
        assert (await site.ask("/healthz", page=page, secret=None)).status == 200


async def test_a_head_that_does_not_come_is_hung_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_server, "SECONDS", 0.3)
    async with open_page(tmp_path) as page:
        host, _, port = page.removeprefix("http://").rpartition(":")
        for text in (
            b"",
            b"GET / HTTP/1.1\r\nHost: 127",
            b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
        ):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(text)
            got = await asyncio.wait_for(reader.read(), 5)
            assert got == b"" or b" 408 " in got
            writer.close()


async def test_seventeen_onlookers_are_one_too_many(site: Site, tmp_path: Path) -> None:
    async with open_page(tmp_path) as page:
        looking = [await site.http.get(f"{page}/api/v1/events") for _ in range(16)]
        assert [each.status for each in looking] == [200] * 16
        assert (await site.ask("/api/v1/events", page=page, secret=None)).status == 503
        for each in looking:
            each.close()
        async with asyncio.timeout(20):
            while True:
                async with site.http.get(f"{page}/api/v1/events") as again:
                    if again.status == 200:
                        break
                await asyncio.sleep(0.3)


async def test_a_port_that_is_taken_is_told_with_the_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"{ALONE}[web]\nlisten = 127.0.0.1:{taken.getsockname()[1]}\n"
        settings = config.parse(text, "server.ini")
        assert settings.web is not None
        async with Server(settings, StateFolder(tmp_path)) as server:
            with pytest.raises(Exception, match=r"^server\.ini:\d+: cannot listen on 127\.0\.0\.1:\d+: "):
                await WebServer(server, settings.web).__aenter__()
