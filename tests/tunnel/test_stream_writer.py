"""asyncio's `StreamWriter` works on a stream as on a socket."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess

import pytest

from tests.tunnel.ends import echo, service, tunnel
from toxproxy.errors import StreamReset


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts for a server named `localhost` and a client that trusts it."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command = [openssl, "req", *kind, *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=certificate)


async def test_tls_is_begun_on_a_stream(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    for_server, for_client = contexts

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go ahead\n")
        await writer.start_tls(for_server)
        await echo(reader, writer)

    message = bytes(range(256)) * 8000
    async with tunnel() as ends, service(upgrade) as port, asyncio.timeout(20):
        reader, writer = await ends.open(port)
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go ahead\n"
        await writer.start_tls(for_client, server_hostname="localhost")
        cipher = writer.get_extra_info("cipher")
        assert cipher is not None
        sending = asyncio.create_task(send(writer, message))
        assert await reader.readexactly(len(message)) == message
        await sending
        writer.close()
        await writer.wait_closed()
        assert await reader.read() == b""
        await ends.quiet()


async def send(writer: asyncio.StreamWriter, message: bytes) -> None:
    for at in range(0, len(message), 65536):
        writer.write(message[at : at + 65536])
        await writer.drain()


async def test_an_untrusted_certificate_ends_the_stream(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    for_server, _ = contexts

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await writer.start_tls(for_server)

    async with tunnel() as ends, service(upgrade) as port, asyncio.timeout(20):
        _, writer = await ends.open(port)
        with pytest.raises(ssl.SSLCertVerificationError):
            await writer.start_tls(ssl.create_default_context(), server_hostname="localhost")
        await ends.quiet()


async def test_drain_waits_for_a_reader_that_stopped() -> None:
    go_on = asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        await echo(reader, writer)

    async with tunnel() as ends, service(late) as port, asyncio.timeout(20):
        reader, writer = await ends.open(port)
        written = 0

        async def pour() -> None:
            nonlocal written
            for _ in range(32):
                writer.writelines([bytes(1 << 19), bytes(1 << 19)])
                await writer.drain()
                written += 1 << 20
            writer.write_eof()

        pouring = asyncio.create_task(pour())
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.3)
        assert not pouring.done()
        go_on.set()
        assert await reader.readexactly(32 << 20) == bytes(32 << 20)
        await pouring
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await ends.quiet()


async def test_wait_closed_of_a_reset_stream_raises() -> None:
    async with tunnel() as ends, service(echo) as port, asyncio.timeout(20):
        _, writer = await ends.open(port)
        ends.near.close("the end")
        with pytest.raises(StreamReset):
            await writer.wait_closed()
        assert writer.is_closing()
        writer.write(b"x")  # raises nothing, as on a socket
        with pytest.raises(ConnectionResetError):
            await writer.drain()
