"""The HTTP proxy between a client that sends raw bytes and a real server."""

from __future__ import annotations

import asyncio

import pytest

from tests.inbound.http_client import get, head_of, response
from tests.inbound.http_origin import BIG
from tests.inbound.peers import Origin, connect, echo, talk, until
from toxproxy.errors import Refusal


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


async def test_a_request_to_another_server_has_its_own_connection(port, origin, dialer):
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


async def test_chunks_and_trailers_are_forwarded(port, origin):
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


async def test_early_hints_are_forwarded(port, origin):
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
async def test_an_answer_without_a_body_keeps_the_connection_open(port, origin, path, method, status):
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


async def test_an_answer_before_the_end_of_the_body_is_forwarded(port, origin):
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


async def test_bytes_sent_with_a_connect_go_through_its_tunnel(port):
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


async def test_connect_in_http_1_0_opens_a_tunnel(port):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(f"CONNECT {server.target} HTTP/1.0\r\n\r\n".encode())
        assert (await head_of(reader))[0] == 200
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()


async def test_a_client_may_repeat_a_refused_connect_on_the_same_connection(port, dialer):
    dialer.refusals["closed.test"] = Refusal.CONNECTION_REFUSED
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(get("closed.test:443", method="CONNECT"))
        assert (await response(reader))[0] == 502
        writer.write(get(str(server.target), method="CONNECT"))
        assert (await head_of(reader))[0] == 200
        writer.close()
