"""The transport for httpx and the connector for aiohttp in examples/, through a tunnel."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import uvloop
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from examples.aiohttp_connector import Connector
from examples.httpx_transport import Transport
from tests.ports import unused_port
from tests.tunnel.ends import Ends, tunnel

Key = ec.EllipticCurvePrivateKey
Fetch = Callable[..., Awaitable[tuple[int, bytes]]]

_MAY_SIGN = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)
PATIENCE = 60.0  # seconds
BODY = bytes(range(256)) * 12_000  # more than a window
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def certificate(
    name: str, key: Key, issuer: str, signer: Key, *, authority: bool = False
) -> x509.Certificate:
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        # Both are asked for by Python 3.13 and newer (VERIFY_X509_STRICT, RFC 5280).
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if authority:
        made = made.add_extension(_MAY_SIGN, critical=True)
    else:
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        made = made.add_extension(names, critical=False)
    return made.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For a server at 127.0.0.1, and for a client that trusts the authority made here."""
    folder = tmp_path_factory.mktemp("authority")
    root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = certificate("authority", root, "authority", root, authority=True)
    leaf = certificate("server", own, "authority", root)
    pem = serialization.Encoding.PEM
    secret = own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.pem").write_bytes(secret + leaf.public_bytes(pem))
    for_server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for_server.load_cert_chain(folder / "server.pem")
    return for_server, ssl.create_default_context(cadata=authority.public_bytes(pem).decode())


@dataclass
class Scene:
    ends: Ends
    plain: str  # the address of the server without TLS, and with it
    secure: str
    trusting: ssl.SSLContext
    connections: list[Any]  # that the servers have seen

    @asynccontextmanager
    async def httpx(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Fetch]:
        transport = Transport(self.ends.near, context=context or self.trusting)
        async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as client:

            async def fetch(url: str, data: bytes | None = None) -> tuple[int, bytes]:
                answer = await client.request("GET" if data is None else "POST", url, content=data)
                return answer.status_code, answer.content

            yield fetch

    @asynccontextmanager
    async def aiohttp(self, context: ssl.SSLContext | None = None) -> AsyncIterator[Fetch]:
        connector = Connector(self.ends.near, context=context or self.trusting)
        timeout = aiohttp.ClientTimeout(total=PATIENCE, sock_connect=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

            async def fetch(url: str, data: bytes | None = None) -> tuple[int, bytes]:
                async with session.request("GET" if data is None else "POST", url, data=data) as answer:
                    return answer.status, await answer.read()

            yield fetch


@asynccontextmanager
async def scened(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Scene]:
    connections: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        if request.transport not in connections:
            connections.append(request.transport)
        if request.path == "/cut":
            assert request.transport is not None
            request.transport.abort()
        if request.path.startswith("/small"):
            return web.Response(text=request.path)
        return web.Response(body=(await request.read())[::-1] if request.can_read_body else BODY)

    application = web.Application(client_max_size=1 << 24)
    application.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        ports = []
        for context in (None, contexts[0]):
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
            await site.start()
            assert site._server is not None
            ports.append(site._server.sockets[0].getsockname()[1])  # type: ignore[attr-defined]
        async with tunnel() as ends:
            urls = f"http://127.0.0.1:{ports[0]}", f"https://127.0.0.1:{ports[1]}"
            yield Scene(ends, *urls, contexts[1], connections)
    finally:
        await runner.cleanup()


def run(loop: Callable[[], asyncio.AbstractEventLoop], test: Coroutine[Any, Any, None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await test

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(in_time())


@LOOPS
@pytest.mark.parametrize("library", ["httpx", "aiohttp"])
def test_requests_with_and_without_tls_are_answered_whole(
    loop: Callable[[], asyncio.AbstractEventLoop], library: str, contexts: Any
) -> None:
    async def test() -> None:
        async with scened(contexts) as scene, getattr(scene, library)() as fetch:
            for url in (scene.plain, scene.secure):
                seen = len(scene.connections)
                assert await fetch(f"{url}/big") == (200, BODY)
                assert await fetch(f"{url}/there", BODY) == (200, BODY[::-1])
                assert len(scene.connections) == seen + 1, "the connection is used again"
                answers = await asyncio.gather(*(fetch(f"{url}/small/{number}") for number in range(10)))
                assert answers == [(200, b"/small/%d" % number) for number in range(10)]

    run(loop, test())


@LOOPS
@pytest.mark.parametrize(
    ("library", "failure"),
    [("httpx", httpx.ConnectError), ("aiohttp", aiohttp.ClientConnectorCertificateError)],
)
def test_a_certificate_of_an_unknown_authority_is_an_error_and_its_stream_ends(
    loop: Callable[[], asyncio.AbstractEventLoop], library: str, failure: type[Exception], contexts: Any
) -> None:
    async def test() -> None:
        async with scened(contexts) as scene:
            async with getattr(scene, library)(ssl.create_default_context()) as fetch:
                with pytest.raises(failure, match="certificate verify failed"):
                    await fetch(scene.secure)
            await scene.ends.quiet()
            assert scene.connections == []

    run(loop, test())


@pytest.mark.parametrize(
    ("library", "refused", "cut"),
    [
        ("httpx", httpx.ConnectError, (httpx.ReadError, httpx.RemoteProtocolError)),
        ("aiohttp", aiohttp.ClientConnectorError, aiohttp.ClientError),
    ],
)
def test_what_the_far_end_met_is_an_error_of_the_library(
    library: str, refused: type[Exception], cut: Any, contexts: Any
) -> None:
    async def test() -> None:
        async with scened(contexts) as scene, getattr(scene, library)() as fetch:
            with pytest.raises(refused, match="connection refused"):
                await fetch(f"http://127.0.0.1:{unused_port()}/")
            with pytest.raises(cut):
                await fetch(f"{scene.secure}/cut")
            assert await fetch(f"{scene.secure}/more") == (200, BODY)

    run(asyncio.new_event_loop, test())


def test_aiohttp_s_own_ways_to_say_which_certificate_is_right_hold(contexts: Any) -> None:
    async def test() -> None:
        connector_context = ssl.create_default_context()
        async with scened(contexts) as scene:
            connector = Connector(scene.ends.near, context=connector_context)
            async with aiohttp.ClientSession(connector=connector) as session:
                for accepted in (scene.trusting, False):
                    async with session.get(scene.secure, ssl=accepted) as answer:
                        assert await answer.read() == BODY
                with pytest.raises(aiohttp.ServerFingerprintMismatch):
                    await session.get(scene.secure, ssl=aiohttp.Fingerprint(bytes(32)))

    run(asyncio.new_event_loop, test())


def test_the_examples_need_nothing_of_this_checkout_but_the_public_names() -> None:
    for name in ("httpx_transport", "aiohttp_connector"):
        text = (Path(__file__).parents[1] / "examples" / f"{name}.py").read_text()
        assert "import toxproxy\n" in text
        assert "from toxproxy" not in text
