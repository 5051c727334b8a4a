"""Invalid messages that real servers and clients send, through the proxy port and back."""

from __future__ import annotations

import asyncio
import http.client
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.inbound.http_client import get, head_of, response
from tests.inbound.peers import Origin, connect, echo, talk
from toxproxy.address import Target
from toxproxy.errors import Refusal
from toxproxy.inbound import http_proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@asynccontextmanager
async def answering(*pieces: bytes, keep: bool = False) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that answers the first request of each connection in `pieces`.

    Yields its URL and the heads of the requests.
    """
    heads: list[bytes] = []

    async def answer(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if piece is not pieces[-1]:
                await asyncio.sleep(0.1)  # so that each piece is a TCP segment
        if keep:
            await reader.read()

    async with Origin(answer) as server:
        yield f"http://127.0.0.1:{server.port}/", heads


async def fetch(port, url: str, *headers: str, **options: str) -> bytes:
    reader, writer = await connect(port)
    writer.write(get(url, "Connection: close", *headers, **options))
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


FORGIVEN = {
    "white space before a colon": (b"X-Frame : 1\r\nContent-Length: 5\r\n", b"X-Frame: 1\r\n"),
    "lines that are no fields": (
        b"Secured by Excellent Serv :\r\nsh:can't create dev/null: nonexistent directory\r\n"
        b"4177d0f6529d972bb3f5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\n",
    ),
    "a control character": (b"Set-Cookie: a=b\x0bc\r\nContent-Length: 5\r\n", b"Set-Cookie: a=b c\r\n"),
    "the identity coding": (b"Transfer-Encoding: identity\r\n", b""),
    "a folded line": (b"X-A: 1\r\n 2\r\nContent-Length: 5\r\n", b"X-A: 1 2\r\n"),
}


@pytest.mark.parametrize(
    "status", [b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"\r\nHTTP/1.1 200", b"ICY 200 OK"]
)
@pytest.mark.parametrize(("fields", "passed"), FORGIVEN.values(), ids=FORGIVEN)
async def test_an_invalid_answer_that_browsers_accept_is_forwarded(port, status, fields, passed):
    async with answering(status + b"\r\n" + fields + b"\r\nhello") as (url, _):
        answer = await fetch(port, url)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert passed in answer
    assert b"hello" in answer


async def test_an_invalid_early_hint_is_forwarded_too(port):
    sloppy = b"HTTP/1.1 103 Hints\r\nLink : </x>\r\nnonsense\r\n\r\n"
    async with answering(sloppy + OK) as (url, _):
        answer = await fetch(port, url)
    assert answer.startswith(b"HTTP/1.1 103 ")
    assert b"Link: </x>\r\n" in answer
    assert answer.endswith(b"hi")


@pytest.mark.parametrize(
    "fields",
    [b"Transfer-Encoding: gzip\r\n", b"Content-Length: 5\r\nContent-Length: 6\r\n", b"Content-Length 5\r\n"],
)
async def test_an_answer_of_uncertain_length_is_a_bad_gateway(port, fields):
    async with answering(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nhello") as (url, _):
        assert (await fetch(port, url)).startswith(b"HTTP/1.1 502 ")


async def test_invalid_chunk_extensions_and_trailers_are_accepted(port):
    body = (
        b"5 ; foo=bar\r\nhello\r\n0 ;x\r\nX-Sum : 5\r\nnonsense\r\nContent-Length: 99\r\nHost: evil\r\n\r\n"
    )
    async with answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body) as (url, _):
        answer = await fetch(port, url)
    assert answer.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n")


async def test_fields_that_belong_in_the_head_are_dropped_from_a_trailer(port, origin):
    trailer = b"X-Sum: 5\r\nHost: evil\r\nContent-Length: 9\r\nProxy-Authorization: Basic eDp5\r\n\r\n"
    bodies = []

    async def read(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        bodies.append(await reader.readuntil(b"0\r\n") + await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)

    async with Origin(read) as server:
        reader, writer = await connect(port)
        url = f"http://127.0.0.1:{server.port}/"
        writer.write(get(url, "Transfer-Encoding: chunked", method="POST") + b"2\r\nhi\r\n0\r\n" + trailer)
        assert (await response(reader))[2] == b"hi"
        writer.close()
    assert bodies == [b"2\r\nhi\r\n0\r\nX-Sum: 5\r\n\r\n"]


LONG = b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 1000) for i in range(200))


@pytest.mark.parametrize("cut", [30_000, 150_000, len(LONG) - 10])
async def test_a_long_head_is_accepted_in_pieces_of_any_size(port, cut):
    whole = LONG + b"Content-Length: 2\r\n\r\nhi"
    async with answering(whole[:cut], whole[cut:]) as (url, _):
        answer = await fetch(port, url)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"hi")


@pytest.mark.parametrize("cut", [100, 250_000])
async def test_a_head_over_the_limit_is_a_bad_gateway_in_pieces_of_any_size(port, cut):
    whole = LONG + LONG[17:] + b"Content-Length: 2\r\n\r\nhi"
    async with answering(whole[:cut], whole[cut:]) as (url, _):
        assert (await fetch(port, url)).startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n\r\n", b"\n"])
async def test_empty_lines_before_requests_are_ignored(port, origin, empty):
    reader, writer = await connect(port)
    for _ in range(2):
        writer.write(empty + get(origin.url + "/hello"))
        assert (await response(reader))[2] == b"hello"
    writer.write(empty)
    writer.write(get(origin.url + "/hello"))
    assert (await response(reader))[2] == b"hello"
    writer.close()


async def test_a_url_with_other_characters_than_ascii_is_forwarded_encoded(port, origin, dialer):
    dialer.names.add("xn--bcher-kva.test")
    reader, writer = await connect(port)
    for host in ("bücher.test", "b%C3%BCcher.test", "B%c3%9ccher.test"):
        writer.write(get(f"http://{host}:{origin.port}/hello?q=ü%20"))
        assert (await response(reader))[2] == b"hello"
    assert {request.target for request in origin.requests} == {b"/hello?q=%C3%BC%20"}
    hosts = {dict(request.headers)[b"host"] for request in origin.requests}
    assert hosts == {f"xn--bcher-kva.test:{origin.port}".encode()}
    writer.write(get(f"bücher.test:{origin.port}", method="CONNECT"))
    assert (await head_of(reader))[0] == 200
    assert set(dialer.dialled) == {Target("xn--bcher-kva.test", origin.port)}
    writer.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_may_send_a_url_without_encoding_it(port, origin):
    proxy = "http://" + port.addresses[0]
    process = await asyncio.create_subprocess_exec(
        "curl", "-sS", "-m", "5", "-x", proxy, origin.url + "/hello?q=ü", stdout=asyncio.subprocess.PIPE
    )
    assert (await process.communicate())[0] == b"hello"
    assert origin.requests[0].target == b"/hello?q=%C3%BC"


async def test_an_answer_before_the_end_of_an_upload_arrives_as_without_a_proxy(port, monkeypatch):
    """The client sends a long upload completely before it reads the answer, as http.client does."""
    sending, read_all = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        writer.write_eof()
        await sending.wait()
        while await reader.read(65536):
            pass
        read_all.set()

    def upload(target: str) -> tuple[int, bytes, str | None]:
        def body():
            yield bytes(65536)
            loop.call_soon_threadsafe(sending.set)
            for _ in range(300):
                yield bytes(65536)

        host, _, number = port.addresses[0].rpartition(":")
        client = http.client.HTTPConnection(host, int(number), timeout=20)
        client.request("POST", target, body=body(), headers={"Content-Length": str(301 * 65536)})
        answer = client.getresponse()
        return answer.status, answer.read(), answer.headers["Connection"]

    async with Origin(refuse) as server:
        found = await asyncio.to_thread(upload, f"http://127.0.0.1:{server.port}/")
    assert found == (413, b"big", "close")


async def test_an_upload_after_a_refusal_is_read_for_longer_than_an_ordinary_end(port, dialer, monkeypatch):
    monkeypatch.setattr("toxproxy.relay.stream.LINGER_SECONDS", 0.0)
    reader, writer = await connect(port)
    dialer.refusals["refused.test"] = Refusal.NOT_PERMITTED
    writer.write(get("http://refused.test/", f"Content-Length: {64 << 20}", method="POST"))
    status, head, _ = await response(reader)
    assert (status, b"\r\nconnection: close\r\n" in head.lower()) == (403, True)
    for _ in range(1024):
        writer.write(bytes(65536))
        await writer.drain()
    assert await reader.read() == b""
    writer.close()


async def test_an_unwanted_upload_that_stops_is_not_waited_for(port, origin, monkeypatch):
    monkeypatch.setattr(http_proxy, "UPLOAD_SILENCE", 0.05)
    monkeypatch.setattr("toxproxy.relay.stream.LINGER_SECONDS", 0.0)
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/too-large", "Content-Length: 9", method="POST"))
    assert (await response(reader))[0] == 413
    assert await reader.read() == b""
    async with asyncio.timeout(5):
        while port.connections:
            await asyncio.sleep(0.01)
    writer.close()


async def test_an_unwanted_upload_is_not_read_for_ever(port, origin, monkeypatch):
    monkeypatch.setattr(http_proxy, "UPLOAD_SECONDS", 0.2)
    monkeypatch.setattr("toxproxy.relay.stream.LINGER_SECONDS", 0.0)
    _, writer = await connect(port)
    writer.write(get(origin.url + "/too-large", f"Content-Length: {1 << 40}", method="POST"))

    async def upload() -> None:
        while True:
            writer.write(bytes(65536))
            await writer.drain()

    with pytest.raises(ConnectionError):
        await asyncio.wait_for(upload(), 10)


@pytest.mark.parametrize("path", ["/hello", "/refused"])
async def test_a_request_with_two_lengths_is_the_last_on_its_connection(port, origin, dialer, path):
    headers = ["Content-Length: 6", "Transfer-Encoding: chunked"]
    url = origin.url + path if path == "/hello" else "ftp://a.test/"
    answer_to_next = get(origin.url + "/hello")
    reader, writer = await connect(port)
    writer.write(get(url, *headers, method="POST") + b"0\r\n\r\n" + answer_to_next)
    _, head, _ = await response(reader)
    assert b"\r\nconnection: close\r\n" in head.lower()
    assert await reader.read() == b""
    assert len(origin.requests) <= 1
    writer.close()


async def test_the_connection_of_an_answer_with_two_lengths_is_not_reused(port):
    twice = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
    async with answering(twice, keep=True) as (url, heads):
        reader, writer = await connect(port)
        for _ in range(2):
            writer.write(get(url))
            await head_of(reader)
            assert await reader.readexactly(12) == b"2\r\nhi\r\n0\r\n\r\n"
        assert len(heads) == 2, "the connection was reused"
        writer.close()


@pytest.mark.parametrize("cut", [0, 5])
async def test_a_connect_with_a_body_is_refused(port, dialer, cut):
    reader, writer = await connect(port)
    writer.write(get("a.test:443", "Content-Length: 5", method="CONNECT") + b"hello"[:cut])
    assert (await response(reader))[0] == 400
    assert dialer.dialled == []
    writer.close()


async def test_an_http_1_0_client_cannot_ask_for_an_upgrade(port, origin):
    answer = await talk(
        port, get(origin.url + "/upgrade", "Connection: Upgrade", "Upgrade: echo", version="1.0")
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"no upgrade asked")
    assert b"upgrade" not in dict(origin.requests[0].headers)


@pytest.mark.parametrize(
    ("upgrade", "passed"), [("h2c", None), ("H2C, websocket", b"websocket"), ("websocket", b"websocket")]
)
async def test_an_upgrade_to_http2_is_not_forwarded(port, upgrade, passed):
    headers = ["Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk"]
    async with answering(OK) as (url, heads):
        reader, writer = await connect(port)
        writer.write(get(url, *headers))
        assert (await response(reader))[2] == b"hi"
        writer.close()
    (head,) = heads
    assert b"http2-settings" not in head.lower()
    assert (b"\r\nConnection: Upgrade\r\n" in head) == (passed is not None)
    assert passed is None or b"\r\nUpgrade: " + passed + b"\r\n" in head


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_max_forwards_of_0_is_answered_by_the_proxy(port, origin, dialer, method):
    secrets = ["Authorization: Basic eDp5", "Cookie: a=b", "Proxy-Authorization: Basic eDp5"]
    reader, writer = await connect(port)
    writer.write(get(origin.url + "/hello", "Max-Forwards: 0", "X-Mine: 1", *secrets, method=method))
    status, head, body = await response(reader)
    assert status == 200
    assert dialer.dialled == []
    if method == "TRACE":
        assert b"Content-Type: message/http\r\n" in head
        assert body == get(origin.url + "/hello", "Max-Forwards: 0", "X-Mine: 1", method="TRACE")
    writer.write(get(origin.url + "/hello", "Max-Forwards: 3", method=method))
    await response(reader)
    writer.write(get(origin.url + "/hello", "Max-Forwards: 3"))
    await response(reader)
    counts = [dict(request.headers)[b"max-forwards"] for request in origin.requests]
    assert counts == [b"2", b"3"], "Max-Forwards is decremented for OPTIONS and TRACE only (RFC 9110)"
    writer.close()


async def test_tcp_urgent_data_is_part_of_the_stream(port):
    async with Origin(echo) as server:
        reader, writer = await connect(port)
        writer.write(get(str(server.target), method="CONNECT"))
        await head_of(reader)
        sock = writer.get_extra_info("socket")
        for part, flags in ((b"abc", 0), (b"X", socket.MSG_OOB), (b"def", 0)):
            assert socket.socket.send(sock._sock, part, flags) == len(part)
        assert await asyncio.wait_for(reader.readexactly(7), 5) == b"abcXdef"
        writer.close()
