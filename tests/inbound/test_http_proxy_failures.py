"""The HTTP proxy when something fails, is refused, or disconnects."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode

import pytest

from tests.inbound.http_client import get, head_of, response
from tests.inbound.peers import Origin, connect, echo, flood, proxy, reset, talk, until
from tests.ports import unused_port
from toxproxy.address import Target
from toxproxy.config.settings import LimitSettings
from toxproxy.errors import Refusal
from toxproxy.inbound import http_proxy
from toxproxy.inbound.answers import ANSWERS
from toxproxy.patience import Patience
from toxproxy.socks import ProxyListener

STATUS = {
    Refusal.FAILED: 502,
    Refusal.NOT_PERMITTED: 403,
    Refusal.NETWORK_UNREACHABLE: 502,
    Refusal.HOST_UNREACHABLE: 502,
    Refusal.CONNECTION_REFUSED: 502,
    Refusal.TIMED_OUT: 504,
    Refusal.UNSUPPORTED: 501,
    Refusal.NAME_NOT_FOUND: 502,
    Refusal.TOO_MANY_STREAMS: 503,
    Refusal.ADDRESS_IN_USE: 502,
    Refusal.OFFLINE: 503,
    Refusal.QUOTA_USED: 429,
}


@pytest.mark.parametrize("code", Refusal)
@pytest.mark.parametrize(
    ("method", "target"), [("GET", "http://{}/"), ("HEAD", "http://{}/"), ("CONNECT", "{}")]
)
async def test_a_refusal_is_answered_with_its_status_and_the_connection_stays_open(
    port, dialer, origin, code, method, target
):
    dialer.refusals["refused.test"] = code
    reader, writer = await connect(port)
    writer.write(get(target.format("refused.test:81"), method=method))
    if method == "HEAD":
        status, head = await head_of(reader)
    else:
        status, head, body = await response(reader)
        assert body.startswith(f"toxproxy: refused.test:81 could not be reached: {code.words}.\n".encode())
    assert status == STATUS[code]
    assert f"Proxy-Status: toxproxy; error={ANSWERS[code].error}\r\n".encode() in head
    assert (b"Retry-After:" in head) == (status == 503)
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    writer.close()


async def test_a_refused_upload_is_answered_and_the_connection_closed(port, dialer):
    dialer.refusals["refused.test"] = Refusal.NOT_PERMITTED
    reader, writer = await connect(port)
    writer.write(get("http://refused.test/", "Content-Length: 1000000", method="POST") + bytes(1000))
    status, head, _ = await response(reader)
    assert status == 403
    assert b"connection: close" in head.lower()
    assert await reader.read() == b""
    writer.close()


async def test_a_dead_port_is_a_bad_gateway(port):
    reader, writer = await connect(port)
    writer.write(get(f"http://127.0.0.1:{unused_port()}/"))
    status, head, body = await response(reader)
    assert status == 502
    assert b"error=connection_refused" in head
    assert b"connection refused" in body
    writer.close()


@pytest.mark.parametrize("path", ["/", "/index.html", "*"])
async def test_a_request_in_origin_form_is_told_that_this_is_a_proxy(port, dialer, path):
    answer = await talk(port, get(path, method="OPTIONS"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"This is a proxy, not a web server." in answer
    assert dialer.dialled == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET http://a.test/ HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET http://a.test/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET http://a.test/ HTTP/1.1\r\nX: " + b"a" * 70_000, 431),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n", 400),
    ],
)
async def test_an_invalid_request_is_answered_and_not_forwarded(port, dialer, data, status):
    reader, writer = await connect(port)
    writer.write(data)
    assert (await response(reader))[0] == status
    assert await reader.read() == b""
    assert dialer.dialled == []
    writer.close()


async def test_a_broken_chunk_is_answered_as_the_clients_error(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/digest", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n")
    assert (await response(reader))[0] == 400
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["/vanish", "/garbage"])
async def test_a_server_without_a_valid_answer_is_a_bad_gateway(port, origin, path):
    reader, writer = await connect(port)
    writer.write(get(origin.url + path))
    status, _, body = await response(reader)
    assert status == 502
    assert b"did not answer properly" in body
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    writer.close()


async def test_a_reused_connection_lost_without_an_answer_closes_the_clients(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello"))
    await response(reader)
    writer.write(get(origin.url + "/vanish"))
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await head_of(reader)
    assert origin.connections == 1
    writer.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/cut", "/cut-chunk", "/cut-reset"])
async def test_an_answer_cut_short_is_incomplete_for_the_client(port, origin, path, version):
    reader, writer = await connect(port)
    writer.write(get(origin.url + path, version=version))
    status, _ = await head_of(reader)
    assert status == 200
    origin.gate.set()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await until(lambda: port.connections == 0)


async def test_an_unrequested_answer_is_discarded(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/smuggle"))
    assert (await response(reader))[2] == b"ok"
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    assert origin.connections == 2
    writer.close()


async def test_a_client_that_half_closes_still_gets_its_answer(port, origin):
    assert (await talk(port, get(origin.url + "/hello"))).endswith(b"hello")


async def test_a_client_that_is_reset_during_the_dial_cancels_it(port, dialer):
    dialer.gate.clear()
    _, writer = await connect(port)
    writer.write(get("http://origin.test/"))
    await dialer.waiting.wait()
    reset(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: port.connections == 0)


async def test_a_client_that_is_reset_during_a_connect_cancels_the_dial(port, dialer):
    dialer.gate.clear()
    _, writer = await connect(port)
    writer.write(get("origin.test:443", method="CONNECT"))
    await dialer.waiting.wait()
    reset(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: port.connections == 0)


async def test_a_client_that_half_closes_after_a_connect_gets_its_tunnel(port):
    async with Origin(echo) as server:
        answer = await talk(port, get(str(server.target), method="CONNECT") + b"data")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\ndata")


async def test_a_client_reset_before_the_answer_closes_the_connection_to_the_server(port, origin, dialer):
    _, writer = await connect(port)
    writer.write(get(origin.url + "/slow"))
    await until(lambda: "slow" in origin.events)
    reset(writer)
    await until(lambda: port.connections == 0)
    assert dialer.open[0].is_closing()


async def test_a_client_that_does_not_read_stops_the_server(port, origin):
    reader, writer = await connect(port)
    writer.transport.pause_reading()
    writer.write(get(origin.url + "/flood"))
    await until(lambda: hasattr(origin, "sent"))
    before = -1
    async with asyncio.timeout(10):
        while origin.sent != before:
            before = origin.sent
            await asyncio.sleep(0.3)
    assert 0 < origin.sent < 32 << 20
    writer.transport.resume_reading()
    async with asyncio.timeout(5):
        while origin.sent == before:  # the server goes on
            await reader.read(1 << 20)
    reset(writer)
    await until(lambda: port.connections == 0)


async def test_a_server_that_does_not_read_stops_the_client(port):
    async def deaf(reader, writer):
        reader._transport.pause_reading()
        await asyncio.sleep(60)

    async with Origin(deaf) as server:
        _, writer = await connect(port)
        writer.write(get(f"http://{server.target}/", "Content-Length: 1000000000", method="POST"))
        sent = await flood(writer)
        assert 0 < sent < 32 << 20
        reset(writer)


@pytest.mark.parametrize("login", [None, "alice:wrong", "alice"])
async def test_a_locked_port_asks_for_a_login_and_keeps_the_connection(locked_port, origin, dialer, login):
    header = [] if login is None else ["Proxy-Authorization: Basic " + b64encode(login.encode()).decode()]
    reader, writer = await connect(locked_port)
    for request in (get(origin.url + "/hello", *header), get("a.test:443", *header, method="CONNECT")):
        writer.write(request)
        status, head, _ = await response(reader)
        assert status == 407
        assert b'Proxy-Authenticate: Basic realm="toxproxy"' in head
    assert dialer.dialled == []
    right = "Proxy-Authorization: Basic " + b64encode("alice:sécret".encode()).decode()
    writer.write(get(origin.url + "/hello", right))
    assert (await response(reader))[2] == b"hello"
    assert b"proxy-authorization" not in dict(origin.requests[0].headers)
    writer.close()


async def test_an_unfinished_head_is_answered_with_408(dialer, caplog):
    caplog.set_level(logging.INFO)
    port = ProxyListener(proxy(), dialer, LimitSettings(handshake=0.05))
    await port.start()
    for _ in range(2):
        reader, writer = await connect(port)
        writer.write(b"GET http://a.test/ HT")
        status, head, body = await response(reader)
        assert status == 408
        assert b"Connection: close" in head
        assert body == b"toxproxy: The request did not arrive in time.\n"
        assert await reader.read() == b""
        writer.close()
    await port.close()
    await port.drain(5)
    assert dialer.dialled == []
    assert caplog.messages == [
        "browser: an HTTP client did not finish its request within 0.05 s ([limits] handshake)"
    ]


async def test_an_unfinished_head_of_a_later_request_is_answered_with_408(port, origin, monkeypatch):
    monkeypatch.setattr(http_proxy, "IDLE_SECONDS", 0.1)
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello"))
    await response(reader)
    writer.write(b"GET http://a.test/ HT")
    assert (await response(reader))[0] == 408
    assert await reader.read() == b""
    writer.close()


async def test_a_server_that_does_not_answer_in_time_is_given_up(dialer, origin):
    port = ProxyListener(proxy(), dialer, LimitSettings(patience=Patience(idle=0.1)))
    await port.start()
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/slow"))
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.readexactly(1), 5)
    await until(lambda: port.connections == 0)
    assert dialer.open[0].is_closing()
    writer.close()
    await port.close()


async def test_an_idle_connection_is_closed_after_a_while(port, origin, monkeypatch):
    monkeypatch.setattr(http_proxy, "IDLE_SECONDS", 0.05)
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello"))
    await response(reader)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_names_are_resolved_at_the_far_end(port, origin, dialer):
    reader, writer = await connect(port)
    writer.write(get(f"http://origin.test:{origin.port}/hello"))
    assert (await response(reader))[0] == 200
    assert dialer.dialled == [Target("origin.test", origin.port)]
    writer.close()
