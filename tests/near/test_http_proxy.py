"""The HTTP proxy against a real server, spoken to in raw bytes."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode

import pytest

from tests.near.http_origin import BIG
from tests.near.world import Origin, connect, echo, reset, talk, until, unused_port
from toxproxy import http_proxy
from toxproxy.address import Target
from toxproxy.answers import ANSWERS
from toxproxy.errors import Refusal


def get(url: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {url} HTTP/{version}", "Host: x", *headers, "", ""]).encode()


async def head_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    return int(head[9:12]), head


async def response(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """One response with a Content-Length."""
    status, head = await head_of(reader)
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None, head
    return status, head, await reader.readexactly(int(length[1]))


async def test_requests_to_one_server_share_a_connection(port, origin, dialer):
    reader, writer = await connect(port)
    for _ in range(3):
        writer.write(get(origin.url + "/hello"))
        status, head, body = await response(reader)
        assert (status, body) == (200, b"hello")
        assert b"X-Mine: 1" in head
        assert b"keep-alive" not in head.lower()
        assert b"via:" not in head.lower()
    assert origin.connections == 1
    assert len(dialer.dialled) == 1
    assert dict(origin.requests[0].headers)[b"host"] == f"127.0.0.1:{origin.port}".encode()
    writer.close()


async def test_another_server_gets_a_connection_of_its_own(port, origin, dialer):
    reader, writer = await connect(port)
    for host in ("127.0.0.1", "origin.test", "127.0.0.1"):
        writer.write(get(f"http://{host}:{origin.port}/hello"))
        assert (await response(reader))[0] == 200
    assert [target.host for target in dialer.dialled] == ["127.0.0.1", "origin.test", "127.0.0.1"]
    writer.close()


async def test_a_server_that_closed_meanwhile_is_dialled_again(port, origin, dialer):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello"))
    await response(reader)
    for task in origin.tasks:
        task.cancel()
    await until(lambda: dialer.open[0].is_closing() or dialer.open[0].get_protocol().hung_up.done())
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    assert origin.connections == 2
    writer.close()


async def test_pipelined_requests_are_answered_in_order(port, origin):
    requests = (
        get(origin.url + "/big") + get(origin.url + "/hello") + get("/own") + get(origin.url + "/hello")
    )
    reader, writer = await connect(port)
    writer.write(requests)
    writer.write_eof()
    assert (await response(reader))[2] == BIG
    assert (await response(reader))[2] == b"hello"
    assert (await response(reader))[0] == 400
    assert (await response(reader))[2] == b"hello"
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("size", [1, 7])
async def test_a_request_may_come_in_pieces(port, origin, size):
    reader, writer = await connect(port)
    data = get(origin.url + "/digest", "Content-Length: 3", method="POST") + b"abc"
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0.0005)
    assert (await response(reader))[2].startswith(b"ba7816bf")
    writer.close()


async def test_chunks_and_trailers_go_on_as_they_come(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/chunked", "Connection: close"))
    answer = await reader.read()
    assert b"4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\nX-Sum: 3\r\n\r\n" in answer
    assert b"\r\nTrailer: X-Sum\r\n" in answer
    writer.close()


async def test_an_http_1_0_client_gets_no_chunks(port, origin):
    answer = await talk(port, get(origin.url + "/chunked", version="1.0"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert b"connection: close" in head.lower()
    assert body == b"one two three"


async def test_an_http_1_0_client_gets_no_early_hints(port, origin):
    answer = await talk(port, get(origin.url + "/hints", version="1.0"))
    assert b" 103 " not in answer
    assert answer.endswith(b"hinted")


async def test_early_hints_go_on(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hints"))
    status, head = await head_of(reader)
    assert status == 103
    assert b"Link: </x>" in head
    assert (await response(reader))[2] == b"hinted"
    writer.close()


async def test_an_answer_that_ends_with_the_connection_is_chunked_for_the_client(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/until-close"))
    status, head = await head_of(reader)
    assert status == 200
    assert b"transfer-encoding: chunked" in head.lower()
    assert await reader.readuntil(b"0\r\n\r\n") == b"9\r\nold style\r\n0\r\n\r\n"
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    writer.close()


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [("/hello", "HEAD", 200), ("/no-content", "GET", 204), ("/not-modified", "GET", 304)],
)
async def test_answers_without_a_body_leave_the_connection_open(port, origin, path, method, status):
    reader, writer = await connect(port)
    writer.write(get(origin.url + path, method=method))
    assert (await head_of(reader))[0] == status
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    assert origin.connections == 1
    writer.close()


async def test_a_body_waits_for_100_continue(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/digest", "Content-Length: 3", "Expect: 100-continue", method="PUT"))
    assert (await head_of(reader))[0] == 100
    writer.write(b"abc")
    assert (await response(reader))[2].startswith(b"ba7816bf")
    assert "100" in origin.events
    writer.close()


async def test_a_chunked_upload_arrives_whole(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/digest", "Transfer-Encoding: chunked", method="POST"))
    for piece in (b"a", b"bc"):
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await asyncio.sleep(0.01)
    writer.write(b"0\r\n\r\n")
    assert (await response(reader))[2].startswith(b"ba7816bf")
    writer.close()


async def test_an_answer_that_comes_before_the_body_is_passed_on(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/too-large", "Content-Length: 1000000000", method="POST") + bytes(100_000))
    status, _, body = await response(reader)
    assert (status, body) == (413, b"too large")
    assert await reader.read() == b""
    writer.close()
    await until(lambda: port.connections == 0)


async def test_an_upgrade_becomes_a_tunnel_in_both_directions(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/upgrade", "Connection: Upgrade", "Upgrade: echo") + b"early ")
    status, head = await head_of(reader)
    assert status == 101
    assert b"Upgrade: echo" in head
    assert await reader.readexactly(8) == b"welcome "
    assert await reader.readexactly(6) == b"early "
    writer.write(b"late")
    assert await reader.readexactly(4) == b"late"
    writer.write_eof()
    assert await reader.read() == b" bye"
    writer.close()
    await until(lambda: port.connections == 0)


async def test_an_upgrade_that_the_server_ignores_is_an_ordinary_answer(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello", "Connection: Upgrade", "Upgrade: websocket"))
    assert (await response(reader))[2] == b"hello"
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    assert origin.connections == 1
    writer.close()


async def test_connect_becomes_a_tunnel_with_what_came_behind_it(port):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(get(str(server.target), method="CONNECT") + b"early ")
        status, head = await head_of(reader)
        assert status == 200
        assert b"content-length" not in head.lower()
        assert b"transfer-encoding" not in head.lower()
        writer.write(b"late")
        writer.write_eof()
        assert await reader.read() == b"early late"
        writer.close()
        await until(lambda: port.connections == 0)


async def test_connect_in_http_1_0_becomes_a_tunnel(port):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(f"CONNECT {server.target} HTTP/1.0\r\n\r\n".encode())
        assert (await head_of(reader))[0] == 200
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()


async def test_a_refused_connect_may_try_again_on_the_same_connection(port, dialer):
    dialer.refusals["closed.test"] = Refusal.CONNECTION_REFUSED
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(get("closed.test:443", method="CONNECT"))
        assert (await response(reader))[0] == 502
        writer.write(get(str(server.target), method="CONNECT"))
        assert (await head_of(reader))[0] == 200
        writer.close()


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
    Refusal.OFFLINE: 503,
}


@pytest.mark.parametrize("code", Refusal)
@pytest.mark.parametrize(
    ("method", "target"), [("GET", "http://{}/"), ("HEAD", "http://{}/"), ("CONNECT", "{}")]
)
async def test_a_refusal_is_answered_with_its_status_and_the_connection_goes_on(
    port, dialer, origin, code, method, target
):
    dialer.refusals["refused.test"] = code
    reader, writer = await connect(port)
    writer.write(get(target.format("refused.test:81"), method=method))
    if method == "HEAD":
        status, head = await head_of(reader)
    else:
        status, head, body = await response(reader)
        words = code.name.lower().replace("_", " ")
        assert body.startswith(f"toxproxy: refused.test:81 could not be reached: {words}.\n".encode())
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
async def test_a_request_for_a_web_server_is_told_that_this_is_a_proxy(port, dialer, path):
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
async def test_a_request_that_breaks_the_rules_is_answered_and_not_passed_on(port, dialer, data, status):
    reader, writer = await connect(port)
    writer.write(data)
    assert (await response(reader))[0] == status
    assert await reader.read() == b""
    assert dialer.dialled == []
    writer.close()


async def test_a_broken_chunk_is_the_clients_fault(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/digest", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n")
    assert (await response(reader))[0] == 400
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("path", ["/vanish", "/garbage"])
async def test_a_server_without_a_proper_answer_is_a_bad_gateway(port, origin, path):
    reader, writer = await connect(port)
    writer.write(get(origin.url + path))
    status, _, body = await response(reader)
    assert status == 502
    assert b"did not answer properly" in body
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    writer.close()


async def test_a_kept_connection_that_dies_unanswered_closes_the_clients(port, origin):
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
async def test_an_answer_that_is_cut_short_is_never_complete_for_the_client(port, origin, path, version):
    reader, writer = await connect(port)
    writer.write(get(origin.url + path, version=version))
    status, _ = await head_of(reader)
    assert status == 200
    origin.gate.set()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await until(lambda: port.connections == 0)


async def test_an_answer_nobody_asked_for_is_given_to_nobody(port, origin):
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/smuggle"))
    assert (await response(reader))[2] == b"ok"
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    assert origin.connections == 2
    writer.close()


async def test_a_client_that_ends_its_side_still_gets_its_answer(port, origin):
    assert (await talk(port, get(origin.url + "/hello"))).endswith(b"hello")


async def test_a_client_that_is_reset_during_the_dial_cancels_it(port, dialer):
    dialer.gate.clear()
    _, writer = await connect(port)
    writer.write(get("http://origin.test/"))
    await dialer.waiting.wait()
    reset(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: port.connections == 0)


@pytest.mark.parametrize("leave", [reset, lambda writer: writer.close()], ids=["reset", "end"])
async def test_a_client_that_leaves_during_a_connect_cancels_the_dial(port, dialer, leave):
    dialer.gate.clear()
    _, writer = await connect(port)
    writer.write(get("origin.test:443", method="CONNECT"))
    await dialer.waiting.wait()
    leave(writer)
    await asyncio.wait_for(dialer.cancelled.wait(), 5)
    await until(lambda: port.connections == 0)


async def test_a_client_that_is_reset_while_the_server_thinks_lets_go_of_the_server(port, origin, dialer):
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
        while origin.sent == before:  # it goes on
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
        sent = 0

        async def flood() -> None:
            nonlocal sent
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536

        flooding = asyncio.create_task(flood())
        before = -1
        async with asyncio.timeout(10):
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
        assert 0 < sent < 32 << 20
        flooding.cancel()
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


async def test_a_head_that_stops_is_given_up(port, monkeypatch):
    monkeypatch.setattr(http_proxy, "HEAD_SECONDS", 0.05)
    assert await head_stops(port) == b""


async def head_stops(port) -> bytes:
    reader, writer = await connect(port)
    writer.write(b"GET http://a.test/ HT")
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_an_idle_connection_is_closed_after_a_while(port, origin, monkeypatch):
    monkeypatch.setattr(http_proxy, "IDLE_SECONDS", 0.05)
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello"))
    await response(reader)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_names_are_left_to_the_far_end(port, origin, dialer):
    reader, writer = await connect(port)
    writer.write(get(f"http://origin.test:{origin.port}/hello"))
    assert (await response(reader))[0] == 200
    assert dialer.dialled == [Target("origin.test", origin.port)]
    writer.close()
