"""Promises of docs/security.md that one process can show: rules, sessions, hostile texts, web pages."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.inbound.peers import DirectDialer, Origin, echo, proxy, talk
from tests.isolated import isolated, needs_namespaces
from tests.machine import Hosts
from tests.ports import unused_port
from tests.simulation import DatagramPipe
from tests.tunnel.ends import echo as echo_service
from tests.tunnel.ends import service, tunnel
from tests.tunnel.lines import packed
from toxproxy import config
from toxproxy.address import Target, parse_host
from toxproxy.app.server import Server
from toxproxy.config.settings import GRACE, ExitSettings
from toxproxy.dialer import P
from toxproxy.errors import CloseCode, Refusal, StreamRefused
from toxproxy.link.base import LinkEnd
from toxproxy.link.carrier import Carrier
from toxproxy.link.enet import EnetLink
from toxproxy.mux import frames
from toxproxy.outbound.exit import Exit
from toxproxy.outbound.serving import Serving
from toxproxy.program.logs import logging_to
from toxproxy.recovery.packet import closing
from toxproxy.rules import Machine, Rules, parse_rule
from toxproxy.socks import ProxyListener
from toxproxy.system.state import StateFolder
from toxproxy.tunnel.events import Change, SessionEvent
from toxproxy.tunnel.friend import words
from toxproxy.tunnel.keeper import SessionKeeper

KEY = bytes(range(32))
SECONDS = 10


def rules(deny: str = "") -> Rules:
    return Rules((parse_rule("*:*"),), tuple(map(parse_rule, deny.split())))


@contextlib.asynccontextmanager
async def friend_of(exit: Exit | Liar) -> AsyncIterator[SessionKeeper]:
    """A new client, connected to a server whose exit is `exit`."""
    pipe = DatagramPipe(1)
    near = SessionKeeper(pipe.near.send_from, changed=lambda _: None, grace=GRACE)
    far = SessionKeeper(pipe.far.send_from, changed=lambda _: None, grace=GRACE, host=Serving(exit))
    for end, sessions in ((pipe.far, far), (pipe.near, near)):
        end.receive, end.batch_ended = sessions.carrier.packet_received, sessions.carrier.batch_ended
        sessions.reach()
    try:
        async with asyncio.timeout(SECONDS):
            while not near.ready:
                await asyncio.sleep(0.005)
        yield near
    finally:
        await near.close("done")
        await far.close("done")
        pipe.close()


async def refusal(friend: SessionKeeper, host: str, port: int) -> StreamRefused:
    assert friend.session is not None
    with pytest.raises(StreamRefused) as caught:
        await friend.session.dial(asyncio.Protocol, Target(host, port))
    return caught.value


async def page_through(way_out: Exit | Liar) -> bytes:
    """What the client's proxy port answers to a request through a server with this exit."""
    async with friend_of(way_out) as near:
        assert near.session is not None
        listener = ProxyListener(proxy(), near.session)
        await listener.start()
        page = await talk(listener, b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: a\r\n\r\n")
        await listener.close()
    return page


# The page itself

PAGE = (Path(__file__).parents[1] / "docs" / "security.md").read_text()


def test_every_test_that_the_document_names_exists() -> None:
    named = re.findall(r"`(tests/[^`:]+)::(\w+)`", PAGE)
    assert len(named) > 20
    for file, name in named:
        text = (Path(__file__).parents[1] / file).read_text()
        assert f"def {name}(" in text, f"{file}::{name}"


def test_the_advised_rules_keep_clients_out_of_the_servers_own_network() -> None:
    (advice,) = re.findall(r"`(deny = [^`]+)`", PAGE)
    judged = config.parse(f"[access]\npermit = *.example.org:443\n{advice}\n", "page").access.rules
    machine = Machine(
        frozenset(map(ip_address, ("192.0.2.1", "2001:db8::1"))), (ip_network("2001:db8::/64"),)
    )
    for address in (
        *("127.0.0.1", "::1", "0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "2001:db8::2"),
        *("10.1.2.3", "172.31.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254"),
        *("fd00::1", "fe80::1", "64:ff9b:1::1", "::ffff:10.1.2.3"),
    ):
        assert not judged.allows(Target("www.example.org", 443), ip_address(address), machine), address
    for address in ("192.0.2.2", "2001:db8:0:1::1"):
        assert judged.allows(Target("www.example.org", 443), ip_address(address), machine)


# Where a client may go

LOOPBACK = [
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "::1", "::", "0:0::0:1"),
    *("::ffff:127.0.0.1", "::FFFF:7F00:1", "::ffff:0.0.0.0", "64:ff9b::127.0.0.1", "64:ff9b::"),
]
NO_ADDRESS = [
    *("0177.0.0.1", "0x7f.1", "0x7f000001", "127.1", "2130706433", "017700000001", "127.0.0.01"),
    *("localhost..", ".localhost", "[::1]", "::1]", "127.0.0.1:80", "127.0.0.1.", "*", "a@localhost"),
    *("::1%lo", "::1%1", "fe80::1%lo", "::ffff:127.0.0.1%lo", "127.0.0.1%lo"),
]  # fmt: skip


async def test_no_friend_gets_past_the_rules_however_it_spells_where_to() -> None:
    way_out = Exit(ExitSettings(connect_timeout=SECONDS), rules("127.0.0.0/8:* [::1]:*"))
    async with Origin(echo) as origin, friend_of(way_out) as first, friend_of(way_out) as second:
        for friend in (first, second):
            for host in LOOPBACK:
                assert (await refusal(friend, host, origin.port)).code is Refusal.NOT_PERMITTED, host
            for host in NO_ADDRESS:
                code = (await refusal(friend, host, origin.port)).code
                assert code in (Refusal.NAME_NOT_FOUND, Refusal.UNSUPPORTED), host
    assert origin.connections == 0


async def test_no_friend_gets_past_the_rules_by_a_name(hosts: Hosts) -> None:
    way_out = Exit(ExitSettings(connect_timeout=SECONDS), rules("127.0.0.0/8:* [::1]:*"))
    async with Origin(echo) as origin, friend_of(way_out) as friend:
        for name in ("localhost", "LOCALHOST", "printer.lan"):
            hosts[name] = ["127.0.0.1", "::1"]
            assert (await refusal(friend, name, origin.port)).code is Refusal.NOT_PERMITTED
    assert origin.connections == 0


@pytest.mark.parametrize(
    "name", ["ｌｏｃａｌｈｏｓｔ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "localhoſt", "LOCALHOST。", "l\u00adocalhost"]
)
def test_a_name_in_other_letters_is_judged_as_the_one_it_becomes(name: str) -> None:
    assert not rules("localhost:*").allows(Target(parse_host(name), 80), ip_address("192.0.2.1"))


@needs_namespaces
async def test_every_address_that_the_kernel_takes_for_this_machine_is_denied_with_loopback() -> None:
    judged = await isolated("reach")
    reached = {address for address, (there, _) in judged.items() if there}
    assert reached >= {"127.0.0.1", "127.1.2.3", "0.0.0.0", "::", "::1", "::ffff:127.0.0.1", "::ffff:0.0.0.0"}
    assert not {address for address in reached if judged[address][1]}, "reached and allowed"


@needs_namespaces
async def test_the_address_that_was_checked_is_dialled_whatever_the_name_server_says_next() -> None:
    met = await isolated("rebind")
    assert set(met) == {"127.0.0.1", "NOT_PERMITTED"}


async def test_a_refusal_by_the_rules_tells_the_client_which_setting_of_the_server_decides() -> None:
    way_out = Exit(ExitSettings(), config.DEFAULT.access.rules)
    with log_lines(as_json=False) as lines:
        page = await page_through(way_out)
    said = "not permitted (on the server: [access] permit)"
    assert f"127.0.0.1:80 could not be reached: {said}.\n" in page.decode()
    assert f"browser: 127.0.0.1:80 refused: {said!r}" in "".join(lines())


# Whose session it is


class Thief:
    """The near end of a link. It introduces itself with somebody else's session and records the answer."""

    def __init__(self, link: EnetLink, identity: tuple[int, int]) -> None:
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self._link, self._identity = link, identity

    def link_up(self) -> None:
        self._link.send(packed(1, frames.Reset(1, 1), ids=self._identity))
        self._link.flush()

    def packet_received(self, packet: bytes) -> None:
        self.answers.put_nowait(packet)

    def link_ready(self) -> None: ...

    def link_down(self, reason: LinkEnd) -> None: ...


async def test_a_friend_cannot_resume_the_session_of_another() -> None:
    async with tunnel() as ends, service(echo_service) as port:
        reader, writer = await ends.open(port)
        identity, pipe, thieves = ends.near._ids, DatagramPipe(1), []

        def own(link: EnetLink) -> Thief:
            thieves.append(Thief(link, identity))
            return thieves[0]

        near = Carrier(pipe.near.send_from, own, connecting=True)
        far = SessionKeeper(
            pipe.far.send_from,
            changed=lambda _: None,
            grace=GRACE,
            host=Serving(Exit(ExitSettings(), rules())),
        )
        for end, carrier in ((pipe.near, near), (pipe.far, far.carrier)):
            end.receive, end.batch_ended = carrier.packet_received, carrier.batch_ended
        near.connect()
        async with asyncio.timeout(SECONDS):
            while not thieves:
                await asyncio.sleep(0.005)
            answer = await thieves[0].answers.get()
        code, _ = closing(answer) or (None, "")
        assert code == CloseCode.NO_SESSION
        writer.write(b"still mine")
        assert await reader.readexactly(10) == b"still mine"
        writer.close()
        await writer.wait_closed()
        await near.close()
        await far.close("done")
        pipe.close()


# Texts from strangers

FORGED = [
    "x\n2026-01-31T12:00:00Z INFO client allowed",
    'x"}\n{"level": "INFO", "message": "client allowed"}',
    "\r\x1b[K\x1b]0;title\x07",
    "\x9b31m\x85",  # the same with C1 controls
    "moc.elpmaxe \u202e\u2066 \u2028 \ufeff",  # bidirectional, line separator, zero width
]


def is_plain(text: str) -> bool:
    """Whether the text has no control or format character and no separator but the space."""
    return all(unicodedata.category(c)[0] != "C" and (c == " " or c.isprintable()) for c in text)


@contextlib.contextmanager
def log_lines(*, as_json: bool) -> Iterator[Callable[[], list[str]]]:
    """Log inside the block, at every level. Yields a function that returns the lines so far."""
    stream = io.StringIO()
    with logging_to(stream, debug=True, as_json=as_json):
        yield lambda: stream.getvalue().splitlines()


class Liar:
    """A server's exit that refuses every target with a text of its own."""

    def __init__(self, words: str) -> None:
        self._words = words

    async def dial(
        self, protocol_factory: Callable[[], P], target: Target, *, early: bool = False, compress: bool = True
    ) -> tuple[asyncio.Transport, P]:
        raise StreamRefused(Refusal.FAILED, self._words)


@pytest.mark.parametrize("words", FORGED)
@pytest.mark.parametrize("as_json", [False, True])
async def test_what_a_server_says_forges_neither_a_log_line_nor_a_page(words: str, as_json: bool) -> None:
    with log_lines(as_json=as_json) as lines:
        page = await page_through(Liar(words))
    head, _, body = page.decode().partition("\r\n\r\n")
    assert "client allowed" not in head
    assert "refused: " in "".join(lines())
    for line in [*lines(), *head.split("\r\n"), *body.splitlines()]:
        assert is_plain(line)
        assert "2026-01-31" not in line[:12]
    if as_json:
        assert "client allowed" not in [json.loads(line)["message"] for line in lines()]


@pytest.mark.parametrize("last", FORGED)
async def test_the_last_words_of_a_session_are_plain(last: str) -> None:
    async with tunnel() as ends:
        ends.far_end.session.close(last)
        async with asyncio.timeout(SECONDS):
            while not any(side == "near" for side, _ in ends.ended):
                await asyncio.sleep(0.005)
    assert all(
        is_plain(words(SessionEvent(Change.ENDED, reason))) for side, reason in ends.ended if side == "near"
    )


@pytest.mark.parametrize("words", FORGED)
@pytest.mark.parametrize("as_json", [False, True])
async def test_what_a_stranger_writes_in_a_friend_request_is_not_logged(
    words: str, as_json: bool, tmp_path: Path
) -> None:
    server = Server(config.DEFAULT, StateFolder(tmp_path))
    with log_lines(as_json=as_json) as lines:
        server.friend_request(KEY, f"toxproxy {words}".encode())
    (line,) = lines()
    assert line.count(KEY.hex().upper()) == 1
    assert "client allowed" not in line
    assert is_plain(line)


async def test_an_upstream_that_vanished_is_named_to_clients_without_its_password() -> None:
    port = unused_port()
    way_out = Exit(ExitSettings(upstream=f"socks5://me:pass-7231@127.0.0.1:{port}"), rules())
    with log_lines(as_json=False) as lines:
        page = await page_through(way_out)
    assert page.startswith(b"HTTP/1.1 502 ")
    assert f"the upstream socks5://127.0.0.1:{port} does not answer".encode() in page
    assert "pass-7231" not in page.decode() + "".join(lines())


# What a web page can make a browser send to the proxy port. The page chooses the body, not the request line.

HERE = "HTTP/1.1\r\nHost: 127.0.0.1:1080\r\nOrigin: http://evil.example\r\n"
REBOUND = "HTTP/1.1\r\nHost: evil.example:1080\r\nOrigin: http://evil.example:1080\r\n"
INNER = "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: x\r\n\r\n"
BY_A_PAGE = {
    "a picture": f"GET / {HERE}\r\n",
    "a name that was rebound": f"GET /secret {REBOUND}\r\n",
    "a form": f"POST / {HERE}Content-Type: text/plain\r\nContent-Length: {{length}}\r\n\r\n{INNER}",
    "chunks": f"POST / {HERE}Transfer-Encoding: chunked\r\n\r\n{{length:x}}\r\n{INNER}\r\n0\r\n\r\n",
    "a target in the path": f"GET /http://127.0.0.1:{{port}}/ {HERE}\r\n",
    "a preflight": f"OPTIONS / {HERE}Access-Control-Request-Method: POST\r\n\r\n",
    "a web socket": f"GET / {HERE}Connection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
}


@pytest.mark.parametrize("request_", BY_A_PAGE.values(), ids=BY_A_PAGE.keys())
async def test_a_web_page_cannot_use_the_proxy_port_that_its_browser_can_reach(request_: str) -> None:
    dialer = DirectDialer()
    listener = ProxyListener(proxy(), dialer)
    await listener.start()
    async with Origin(echo) as origin:
        length = len(INNER.format(port=origin.port))
        answer = await talk(listener, request_.format(port=origin.port, length=length).encode())
        assert origin.connections == 0
    assert dialer.dialled == []
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"access-control" not in answer.lower()
    await listener.close()


@pytest.mark.parametrize("start", [b"\x16\x03\x01\x02\x00\x01", b"\x00\x01\x00\x00\x21\x12\xa4\x42"])
async def test_tls_and_stun_of_a_web_page_are_hung_up_on(start: bytes) -> None:
    dialer = DirectDialer()
    listener = ProxyListener(proxy(), dialer)
    await listener.start()
    assert await talk(listener, start + INNER.format(port=1).encode()) == b""
    assert dialer.dialled == []
    await listener.close()
