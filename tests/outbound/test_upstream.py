"""Dialling through another proxy. The proxies here are also the target: they echo."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Callable

import pytest

from tests.machine import Hosts
from tests.outbound.peers import Answer, Handler, Serve, echo
from toxproxy.address import Target
from toxproxy.config.settings import ExitSettings
from toxproxy.errors import Refusal, StreamRefused
from toxproxy.outbound.exit import Exit
from toxproxy.rules import Rules, parse_rule

Asked = list[tuple[str, int]]


def socks5(asked: Asked, reply: int = 0, login: tuple[bytes, bytes] | None = None) -> Handler:
    """A SOCKS5 server (RFC 1928, RFC 1929) that records its requests."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if login else 0
        assert method in methods
        writer.write(bytes([5, method]))
        if login:
            _, size = await reader.readexactly(2)
            username = await reader.readexactly(size)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(bytes([1, (username, password) != login]))
        *_, kind = await reader.readexactly(4)
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = str(ipaddress.ip_address(await reader.readexactly(4 if kind == 1 else 16)))
        asked.append((host, int.from_bytes(await reader.readexactly(2), "big")))
        writer.write(bytes([5, reply, 0, 1]) + bytes(6))
        if reply == 0:
            writer.write(b"220 ready\r\n")
            await echo(reader, writer)

    return handle


def http(asked: list[str], *pieces: bytes) -> Handler:
    """An HTTP proxy that records the head of the request and answers in pieces, a moment apart."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        await echo(reader, writer)

    return handle


def through(url: str, deny: str = "", timeout: float = 5.0) -> Exit:
    rules = Rules((parse_rule("*:*"),), tuple(map(parse_rule, deny.split())))
    return Exit(ExitSettings(upstream=url, connect_timeout=timeout), rules)


async def refusal(way_out: Exit, target: Target) -> StreamRefused:
    with pytest.raises(StreamRefused) as caught:
        await way_out.dial(Answer, target)
    return caught.value


async def converse(way_out: Exit, target: Target, greeting: bytes) -> None:
    transport, answer = await way_out.dial(Answer, target)
    assert await answer.read(len(greeting)) == greeting
    transport.write(b"hello")
    assert await answer.read(len(greeting) + 5) == greeting + b"hello"
    transport.close()
    await answer.lost


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_a_name_is_resolved_by_the_upstream(serve: Serve, scheme: str) -> None:
    asked: Asked = []
    port = await serve(socks5(asked))
    await converse(through(f"{scheme}://127.0.0.1:{port}"), Target("mail.example.org", 25), b"220 ready\r\n")
    assert asked == [("mail.example.org", 25)]


async def test_a_name_is_resolved_here_if_a_rule_is_about_addresses(serve: Serve, hosts: Hosts) -> None:
    hosts["localhost"] = ["127.0.0.1"]
    asked: Asked = []
    port = await serve(socks5(asked))
    way_out = through(f"socks5://127.0.0.1:{port}", deny="10.0.0.0/8:*")
    await converse(way_out, Target("localhost", 25), b"220 ready\r\n")
    assert asked == [("127.0.0.1", 25)]


async def socks4(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A SOCKS4a server that accepts every request."""
    await reader.readexactly(8)
    await reader.readuntil(b"\0")
    await reader.readuntil(b"\0")
    writer.write(b"\x00\x5a" + bytes(6) + b"220 ready\r\n")
    await echo(reader, writer)


PROXIES: dict[str, Handler] = {
    "socks5": socks5([]),
    "socks4": socks4,
    "http": http([], b"HTTP/1.1 200 OK\r\n\r\n", b"220 ready\r\n"),
}


@pytest.mark.parametrize("scheme", PROXIES)
@pytest.mark.parametrize(
    "addresses", [["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.1"], ["127.0.0.2", "127.0.0.3", "::1"]]
)
async def test_every_address_of_an_upstream_is_tried(
    serve: Serve, hosts: Hosts, scheme: str, addresses: list[str]
) -> None:
    hosts["proxy.test"] = addresses
    port = await serve(PROXIES[scheme], addresses[-1])
    way_out = through(f"{scheme}://proxy.test:{port}")
    await converse(way_out, Target("mail.example.org", 25), b"220 ready\r\n")


@pytest.mark.parametrize("scheme", PROXIES)
async def test_a_silent_address_of_an_upstream_delays_no_other(
    serve: Serve, hosts: Hosts, black_hole: Callable[[str, int], int], scheme: str
) -> None:
    hosts["proxy.test"] = ["127.0.0.2", "127.0.0.1"]
    port = await serve(PROXIES[scheme])
    black_hole("127.0.0.2", port)
    way_out = through(f"{scheme}://proxy.test:{port}")
    await converse(way_out, Target("mail.example.org", 25), b"220 ready\r\n")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scheme", PROXIES)
async def test_the_connection_to_an_upstream_that_never_answers_is_closed(serve: Serve, scheme: str) -> None:
    ended = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    way_out = through(f"{scheme}://127.0.0.1:{await serve(say_nothing)}", timeout=0.2)
    assert (await refusal(way_out, Target("mail.example.org", 25))).code is Refusal.TIMED_OUT
    await asyncio.wait_for(ended.wait(), 5)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::ffff:127.0.0.1"])
async def test_a_denied_address_is_not_asked_for(serve: Serve, hosts: Hosts, host: str) -> None:
    hosts["localhost"] = ["127.0.0.1"]
    asked: Asked = []
    port = await serve(socks5(asked))
    error = await refusal(through(f"socks5://127.0.0.1:{port}", deny="127.0.0.0/8:*"), Target(host, 25))
    assert (error.code, asked) == (Refusal.NOT_PERMITTED, [])


async def test_a_name_denied_by_name_is_not_asked_for(serve: Serve) -> None:
    asked: Asked = []
    port = await serve(socks5(asked))
    error = await refusal(through(f"socks5://127.0.0.1:{port}", deny="*.lan:*"), Target("printer.lan", 25))
    assert (error.code, asked) == (Refusal.NOT_PERMITTED, [])


async def test_a_login_is_sent(serve: Serve) -> None:
    asked: Asked = []
    port = await serve(socks5(asked, login=(b"user", b"p@ss")))
    await converse(through(f"socks5://user:p%40ss@127.0.0.1:{port}"), Target("::1", 25), b"220 ready\r\n")
    assert asked == [("::1", 25)]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (1, Refusal.FAILED),
        (2, Refusal.NOT_PERMITTED),
        (3, Refusal.NETWORK_UNREACHABLE),
        (4, Refusal.HOST_UNREACHABLE),
        (5, Refusal.CONNECTION_REFUSED),
        (6, Refusal.TIMED_OUT),
        (7, Refusal.UNSUPPORTED),
        (8, Refusal.UNSUPPORTED),
        (99, Refusal.FAILED),
    ],
)
async def test_a_socks_reply_is_passed_on(serve: Serve, reply: int, code: Refusal) -> None:
    port = await serve(socks5([], reply))
    assert (await refusal(through(f"socks5://127.0.0.1:{port}"), Target("example.org", 80))).code is code


@pytest.mark.parametrize("scheme", ["socks5", "socks4", "http"])
async def test_a_vanished_upstream_is_named_without_its_login(closed_port: int, scheme: str) -> None:
    error = await refusal(through(f"{scheme}://user:hush@127.0.0.1:{closed_port}"), Target("example.org", 80))
    assert error.code is Refusal.FAILED
    assert error.text == (f"the upstream {scheme}://127.0.0.1:{closed_port} does not answer as it should")


@pytest.mark.parametrize("scheme", ["socks5", "socks4", "http"])
async def test_an_upstream_that_disconnects_or_answers_nonsense_is_a_failure(
    serve: Serve, scheme: str
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x05\x00\x05\x00\x00\x03\x01\xff\x00\x00 what?\r\n\r\n")
        await reader.read()

    for handler in (hang_up, babble):
        port = await serve(handler)
        assert (
            await refusal(through(f"{scheme}://127.0.0.1:{port}"), Target("a.test", 80))
        ).code is Refusal.FAILED


@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
async def test_a_socks4_upstream_resolves_the_name_too(serve: Serve, scheme: str) -> None:
    asked: list[bytes] = []

    async def socks4(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(
            await reader.readexactly(8) + await reader.readuntil(b"\0") + await reader.readuntil(b"\0")
        )
        writer.write(b"\x00\x5a" + bytes(6))
        await echo(reader, writer)

    way_out = through(f"{scheme}://127.0.0.1:{await serve(socks4)}")
    await converse(way_out, Target("example.org", 80), b"")
    assert asked == [b"\x04\x01\x00\x50\x00\x00\x00\x01\x00example.org\x00"]
    assert (await refusal(way_out, Target("::1", 80))).code is Refusal.UNSUPPORTED


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", b"220 ready\r\n"),
        (b"HTTP/1.1 200 Connection established\r\n\r\n220 ready\r\n",),
        (b"HTTP/1.0 200 OK\r\nContent-", b"Length: 5\r\n", b"\r\n220 ", b"ready\r\n"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n220 ready\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n220 ready\r\n",),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n", b"220 ready\r\n"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 4, 5\r\nProxy-Agent : x\r\nnonsense\r\n\r\n220 ready\r\n",),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n220 ready\r\n",),
    ],
    ids=["apart", "together", "in pieces", "after 100", "a coding", "two lengths", "sloppy", "long"],
)
async def test_no_byte_of_an_http_upstream_is_lost_in_pieces_of_any_size(
    serve: Serve, pieces: tuple[bytes, ...]
) -> None:
    asked: list[str] = []
    port = await serve(http(asked, *pieces))
    await converse(through(f"http://127.0.0.1:{port}"), Target("mail.example.org", 25), b"220 ready\r\n")
    assert asked == ["CONNECT mail.example.org:25 HTTP/1.1\r\nHost: mail.example.org:25\r\n\r\n"]


async def test_an_http_upstream_is_sent_the_login_and_brackets(serve: Serve) -> None:
    asked: list[str] = []
    port = await serve(http(asked, b"HTTP/1.1 200 OK\r\n\r\n"))
    await converse(through(f"http://user:p%40ss@127.0.0.1:{port}"), Target("::1", 25), b"")
    assert asked[0].startswith("CONNECT [::1]:25 HTTP/1.1\r\nHost: [::1]:25\r\n")
    assert base64.b64encode(b"user:p@ss").decode() in asked[0]


@pytest.mark.parametrize(
    ("login", "token"),
    [(":token", b":token"), ("user", b"user:"), ("user:", b"user:"), ("%C3%BC:p", "ü:p".encode())],
)
async def test_an_http_upstream_is_sent_a_login_without_a_password_too(
    serve: Serve, login: str, token: bytes
) -> None:
    asked: list[str] = []
    port = await serve(http(asked, b"HTTP/1.1 200 OK\r\n\r\n"))
    await converse(through(f"http://{login}@127.0.0.1:{port}"), Target("a.test", 25), b"")
    assert f"\r\nProxy-Authorization: Basic {base64.b64encode(token).decode()}\r\n" in asked[0]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, Refusal.NOT_PERMITTED),
        (407, Refusal.FAILED),
        (502, Refusal.HOST_UNREACHABLE),
        (504, Refusal.TIMED_OUT),
    ],
)
async def test_an_http_status_is_passed_on(serve: Serve, status: int, code: Refusal) -> None:
    port = await serve(http([], b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status))
    error = await refusal(through(f"http://127.0.0.1:{port}"), Target("example.org", 80))
    assert error.code is code
    assert error.text.endswith(f"says the upstream http://127.0.0.1:{port}")


async def test_every_permitted_address_is_tried_and_the_error_names_none(serve: Serve, hosts: Hosts) -> None:
    asked: Asked = []
    port = await serve(socks5(asked, reply=5))
    hosts["db.example.org"] = ["192.0.2.1", "10.0.0.1", "192.0.2.2"]
    way_out = through(f"socks5://127.0.0.1:{port}", deny="10.0.0.0/8:*")
    error = await refusal(way_out, Target("db.example.org", 5432))
    assert asked == [("192.0.2.1", 5432), ("192.0.2.2", 5432)]
    assert error.text == f"connection refused, says the upstream socks5://127.0.0.1:{port}"
