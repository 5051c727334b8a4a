"""Request smuggling: ambiguous requests, and what of them reaches the server behind the proxy."""

from __future__ import annotations

import asyncio

import pytest

from tests.inbound.peers import Origin, connect

BODY = b"\r\nHost: a\r\n"
REFUSED = {
    "two lengths": (b"POST {}/ HTTP/1.1", b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
    "two lengths in one field": (b"POST {}/ HTTP/1.1", b"Content-Length: 4, 5\r\n\r\nabcde", 400),
    "a length that is no number": (b"POST {}/ HTTP/1.1", b"Content-Length: +4\r\n\r\nabcd", 400),
    "a coding that is not known": (
        b"POST {}/ HTTP/1.1",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\nabc",
        501,
    ),
    "the identity coding": (
        b"POST {}/ HTTP/1.1",
        b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
        501,
    ),
    "two codings": (b"POST {}/ HTTP/1.1", b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 501),
    "white space before a colon": (
        b"POST {}/ HTTP/1.1",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a line that is no field": (b"GET {}/ HTTP/1.1", b"nonsense\r\n\r\n", 400),
    "a folded first field": (b"GET {}/ HTTP/1.1\r\n X: 1", b"\r\n", 400),
    "a NUL in a value": (b"GET {}/ HTTP/1.1", b"X: a\0b\r\n\r\n", 400),
    "a vertical tab in a value": (b"GET {}/ HTTP/1.1", b"X: a\x0bb\r\n\r\n", 400),
    "a bare CR in a value": (b"GET {}/ HTTP/1.1", b"X: a\rContent-Length: 5\r\n\r\n", 400),
    "a control character in the coding": (
        b"POST {}/ HTTP/1.1",
        b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "a line end in the target, encoded by nobody": (b"GET {}/\rX HTTP/1.1", b"\r\n", 400),
    "white space in the target": (b"GET {}/ a HTTP/1.1", b"\r\n", 400),
    "no ASCII in the method": (b"G\xfcT {}/ HTTP/1.1", b"\r\n", 400),
    "another scheme": (b"GET https://127.0.0.1/ HTTP/1.1", b"\r\n", 501),
    "a CONNECT with a body": (b"CONNECT 127.0.0.1:9 HTTP/1.1", b"Content-Length: 5\r\n\r\nabcde", 400),
}


async def exchange(port, server: Origin, start: bytes, fields: bytes) -> bytes:
    reader, writer = await connect(port)
    url = b"http://127.0.0.1:%d" % server.port
    writer.write(start.replace(b"{}", url) + BODY + fields)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    writer.close()
    return answer


class Seen(Origin):
    """Reads a request up to the expected `end`, answers, and keeps all that it has read."""

    def __init__(self, end: bytes = b"\r\n\r\n") -> None:
        super().__init__(self._serve)
        self.end = end
        self.seen = b""

    async def _serve(self, reader, writer):
        while not self.seen.endswith(self.end):
            if not (data := await reader.read(65536)):
                return
            self.seen += data
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        self.seen += await reader.read()


@pytest.mark.parametrize(("start", "fields", "status"), REFUSED.values(), ids=REFUSED)
async def test_an_ambiguous_request_is_refused(port, dialer, start, fields, status):
    async with Seen() as server:
        answer = await exchange(port, server, start, fields)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert server.connections == 0
    assert dialer.dialled == []


PASSED = {
    "a length beside chunks": (
        b"POST {}/ HTTP/1.1",
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "a Connection that names the length": (
        b"POST {}/ HTTP/1.1",
        b"Connection: content-length, x-foo\r\nX-Foo: 1\r\nContent-Length: 3\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nHost: {}\r\nContent-Length: 3\r\n\r\nabc",
    ),
    "what is for this hop": (
        b"GET {}/ HTTP/1.1",
        b"Proxy-Authorization: Basic Zm9vOmJhcg==\r\nProxy-Connection: keep-alive\r\nConnection: close\r\n"
        b"TE: trailers\r\nKeep-Alive: 5\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
    ),
    "a Host that lies": (b"GET {}?x HTTP/1.1", b"\r\n", b"GET /?x HTTP/1.1\r\nHost: {}\r\n\r\n"),
    "bare line feeds": (b"GET {}/ HTTP/1.1\nX: 1", b"\n\n", b"GET / HTTP/1.1\r\nHost: {}\r\nX: 1\r\n\r\n"),
    "a folded line": (
        b"GET {}/ HTTP/1.1",
        b"X: a\r\n b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: {}\r\nX: a b: c\r\n\r\n",
    ),
    "a chunk extension": (
        b"POST {}/ HTTP/1.1",
        b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nA: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n",
    ),
}


@pytest.mark.parametrize(("start", "fields", "expected"), PASSED.values(), ids=PASSED)
async def test_a_request_is_forwarded_in_an_unambiguous_form(port, start, fields, expected):
    end = expected[expected.index(b"\r\n\r\n") :]
    async with Seen(end) as server:
        expected = expected.replace(b"{}", b"127.0.0.1:%d" % server.port)
        assert (await exchange(port, server, start, fields)).startswith(b"HTTP/1.1 200 ")
        await asyncio.wait_for(asyncio.gather(*server.tasks), 5)
        assert server.seen == expected
        assert server.connections == 1


@pytest.mark.parametrize(
    "chunks",
    [
        b"3\r\nabcXX0\r\n\r\n",
        b"3 ;a=b\r\nabc\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\n0\n\n",
        b"3\r\nabc\r\n0\r\nX : 1\r\n\r\n",
    ],
)
async def test_a_body_with_wrong_chunks_is_incomplete_for_the_server(port, chunks):
    async with Seen(b"0\r\n\r\n") as server:
        fields = b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        reader, writer = await connect(port)
        url = b"http://127.0.0.1:%d" % server.port
        writer.write(b"POST " + url + b"/ HTTP/1.1" + BODY + fields)
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")
        await asyncio.wait_for(asyncio.gather(*server.tasks, return_exceptions=True), 5)
        assert b"0\r\n\r\n" not in server.seen


@pytest.mark.parametrize("authority", ["user:pw@127.0.0.1:{}", "good.example\\@127.0.0.1:{}"])
async def test_only_the_part_after_the_at_sign_names_the_server(port, dialer, authority):
    async with Seen() as server:
        start = f"GET http://{authority.format(server.port)}/ HTTP/1.1".encode()
        assert (await exchange(port, server, start, b"\r\n")).startswith(b"HTTP/1.1 200 ")
        assert dialer.dialled == [server.target]
        assert b"Host: 127.0.0.1:%d\r\n" % server.port in server.seen
