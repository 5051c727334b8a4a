"""Forwarding of HTTP messages: the destination, and the headers that are kept."""

from __future__ import annotations

from base64 import b64encode

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toxproxy.address import Target
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.inbound.answers import ANSWERS
from toxproxy.inbound.handshake import Credentials
from toxproxy.inbound.http_message import (
    RequestError,
    authorized,
    destination,
    outgoing_request,
    outgoing_response,
    refused,
)


def request(target: bytes, *headers: tuple[bytes, bytes], method: bytes = b"GET") -> h11.Request:
    return h11.Request(method=method, target=target, headers=[(b"Host", b"lies.test"), *headers])


@pytest.mark.parametrize(
    ("method", "uri", "target", "host", "path"),
    [
        (b"GET", b"http://a.test/x?y=1", Target("a.test", 80), b"a.test", b"/x?y=1"),
        (b"GET", b"http://a.test", Target("a.test", 80), b"a.test", b"/"),
        (b"GET", b"HTTP://A.test:8080/", Target("A.test", 8080), b"A.test:8080", b"/"),
        (b"GET", b"http://a.test:/", Target("a.test", 80), b"a.test:", b"/"),
        (b"GET", b"http://a.test?q", Target("a.test", 80), b"a.test", b"/?q"),
        (b"GET", b"http://a.test/x#part", Target("a.test", 80), b"a.test", b"/x"),
        (b"GET", b"http://a.test:000081/", Target("a.test", 81), b"a.test:000081", b"/"),
        (
            b"GET",
            b"http://b%C3%BCcher.test:81/",
            Target("xn--bcher-kva.test", 81),
            b"xn--bcher-kva.test:81",
            b"/",
        ),
        (b"GET", b"http://b%C3%BCcher.test/", Target("xn--bcher-kva.test", 80), b"xn--bcher-kva.test", b"/"),
        (b"GET", b"http://u:p@a.test/", Target("a.test", 80), b"a.test", b"/"),
        (b"GET", b"http://[::1]:81/", Target("::1", 81), b"[::1]:81", b"/"),
        (b"GET", b"http://a.test//x:y@z", Target("a.test", 80), b"a.test", b"//x:y@z"),
        (b"OPTIONS", b"http://a.test", Target("a.test", 80), b"a.test", b"*"),
        (b"OPTIONS", b"http://a.test/", Target("a.test", 80), b"a.test", b"/"),
        (b"CONNECT", b"a.test:443", Target("a.test", 443), b"a.test:443", b"a.test:443"),
        (b"CONNECT", b"[::1]:443", Target("::1", 443), b"[::1]:443", b"[::1]:443"),
    ],
)
def test_a_request_names_its_destination(method, uri, target, host, path):
    found = destination(request(uri, method=method))
    assert (found.target, found.host, found.path) == (target, host, path)


@pytest.mark.parametrize(
    ("method", "uri", "status", "text"),
    [
        (b"GET", b"/", 400, "This is a proxy"),
        (b"OPTIONS", b"*", 400, "This is a proxy"),
        (b"GET", b"a.test:80", 400, "This is a proxy"),
        (b"GET", b"https://a.test/", 501, "does not speak https"),
        (b"GET", b"ftp://a.test/", 501, "does not speak ftp"),
        (b"GET", b"http:///x", 400, "cannot be used"),
        (b"GET", b"http://a.test:0/", 400, "port from 1 to 65535"),
        (b"GET", b"http://a.test:80:81/", 400, "cannot be used"),
        (b"GET", b"http://a.test:http/", 400, "port from 1 to 65535"),
        (b"GET", b"http://[::1/", 400, "cannot be used"),
        (b"GET", b"http://a%2etest/", 400, "cannot be used"),
        (b"GET", b"http://a%fc.test/", 400, "cannot be used"),
        (b"CONNECT", b"a%fc.test:80", 400, "CONNECT needs"),
        (b"CONNECT", b"a.test", 400, "CONNECT needs"),
        (b"CONNECT", b"http://a.test:80/", 400, "CONNECT needs"),
        (b"CONNECT", b"a.test:0", 400, "CONNECT needs"),
    ],
)
def test_a_request_without_a_destination_is_an_error_with_a_reason(method, uri, status, text):
    with pytest.raises(RequestError) as error:
        destination(request(uri, method=method))
    assert error.value.reply.status == status
    assert text in error.value.reply.text


@given(target=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), http=st.booleans())
def test_an_arbitrary_target_is_a_destination_or_an_error(target, http):
    uri = b"http://" * http + target.encode()
    try:
        found = destination(request(uri))
    except RequestError:
        return
    assert 1 <= found.target.port <= 65535
    assert found.path.startswith(b"/")
    outgoing_request(request(uri), found)


def test_a_request_is_forwarded_without_its_hop_by_hop_headers():
    before = request(
        b"http://a.test:81/x",
        (b"Connection", b"X-Secret, keep-alive, TE"),
        (b"X-Secret", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Basic eDp5"),
        (b"TE", b"trailers"),
        (b"Upgrade", b"not-asked-for"),
        (b"User-Agent", b"Test"),
        (b"Content-Length", b"3"),
    )
    after = outgoing_request(before, destination(before))
    assert after.target == b"/x"
    assert after.headers.raw_items() == [
        (b"Host", b"a.test:81"),
        (b"User-Agent", b"Test"),
        (b"Content-Length", b"3"),
    ]


def test_an_upgrade_is_requested_again_at_the_next_hop():
    before = request(
        b"http://a.test/",
        (b"Connection", b"Upgrade, X-Mine"),
        (b"X-Mine", b"1"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", b"abc"),
    )
    after = outgoing_request(before, destination(before))
    assert after.headers.raw_items() == [
        (b"Host", b"a.test"),
        (b"Sec-WebSocket-Key", b"abc"),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
    ]


def test_a_connection_header_cannot_remove_the_framing():
    before = request(b"http://a.test/", (b"Connection", b"content-length, host"), (b"Content-Length", b"3"))
    after = outgoing_request(before, destination(before))
    assert after.headers.raw_items() == [(b"Host", b"a.test"), (b"Content-Length", b"3")]


def test_a_content_length_beside_chunked_coding_is_dropped():
    before = request(b"http://a.test/", (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked"))
    after = outgoing_request(before, destination(before))
    assert after.headers.raw_items() == [(b"Host", b"a.test"), (b"Transfer-Encoding", b"chunked")]


def test_a_response_is_forwarded_without_its_hop_by_hop_headers():
    headers = [
        (b"Connection", b"close, X-Hop, upgrade"),
        (b"X-Hop", b"1"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authenticate", b"Basic"),
        (b"Set-Cookie", b"a=1"),
        (b"Set-Cookie", b"b=2"),
    ]
    after = outgoing_response(h11.Response(status_code=200, reason=b"Fine", headers=headers))
    assert after.reason == b"Fine"
    assert after.headers.raw_items() == [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2")]


@pytest.mark.parametrize(
    ("value", "right"),
    [
        (b"Basic " + b64encode(b"alice:sec:ret"), True),
        (b"basic  " + b64encode(b"alice:sec:ret"), True),
        (b"Basic\t" + b64encode(b"alice:sec:ret"), True),
        (b"Basic " + b64encode(b"alice:wrong"), False),
        (b"Basic " + b64encode(b"mally:sec:ret"), False),
        (b"Basic " + b64encode(b"alice"), False),
        (b"Bearer " + b64encode(b"alice:sec:ret"), False),
        (b"Basic !!!", False),
        (b"Basic", False),
        (b"", False),
    ],
)
def test_only_the_right_login_is_accepted(value, right):
    asked = request(b"http://a.test/", (b"Proxy-Authorization", value))
    assert authorized(asked, Credentials(b"alice", b"sec:ret")) is right


def test_every_refusal_has_a_status():
    assert set(ANSWERS) == set(Refusal)
    for code in Refusal:
        reply = refused(Target("a.test", 80), StreamRefused(code, "no luck"))
        assert reply.text.startswith("a.test:80 could not be reached: no luck.\n")
        assert any(name == b"Retry-After" for name, _ in reply.headers) == (reply.status == 503)
