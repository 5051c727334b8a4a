"""curl through the proxy port, in every way that it knows."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from pathlib import Path

import pytest

from tests.inbound.http_origin import BIG
from tests.inbound.peers import Origin
from tests.ports import unused_port

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

RESET = 56  # CURLE_RECV_ERROR
PROXY_REFUSED = 97  # CURLE_PROXY


async def curl(*arguments: str) -> tuple[int, bytes]:
    """Run curl without a configuration file. Returns its exit status and output."""
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-q",
        "-sS",
        "--noproxy",
        "",
        "--max-time",
        "20",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output


def ways(port) -> dict[str, list[str]]:
    address = port.addresses[0]
    return {
        "socks5h": ["--socks5-hostname", address],
        "socks5": ["--socks5", address],
        "socks4": ["--socks4", address],
        "socks4a": ["--socks4a", address],
        "http": ["-x", f"http://{address}"],
        "http 1.0": ["-x", f"http://{address}", "-0"],
        "connect": ["-x", f"http://{address}", "--proxytunnel"],
    }


WAYS = ["socks5h", "socks5", "socks4", "socks4a", "http", "http 1.0", "connect"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_arrives_whole(port, origin, way):
    assert await curl(*ways(port)[way], origin.url + "/big") == (0, BIG)


@pytest.mark.parametrize("way", WAYS)
async def test_chunks_arrive_whole(port, origin, way):
    assert await curl(*ways(port)[way], origin.url + "/chunked") == (0, b"one two three")


@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_arrives_whole(port, origin, way, tmp_path: Path):
    (tmp_path / "big").write_bytes(BIG)
    status, output = await curl(*ways(port)[way], "-T", str(tmp_path / "big"), origin.url + "/digest")
    assert (status, output) == (0, hashlib.sha256(BIG).hexdigest().encode())


@pytest.mark.parametrize("way", ["socks5h", "http", "connect"])
async def test_a_chunked_upload_arrives_whole(port, origin, way, tmp_path: Path):
    (tmp_path / "big").write_bytes(BIG)
    chunked = ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]
    status, output = await curl(
        *ways(port)[way], *chunked, "--data-binary", f"@{tmp_path / 'big'}", origin.url + "/digest"
    )
    assert (status, output) == (0, hashlib.sha256(BIG).hexdigest().encode())
    assert origin.events == ["100"]


@pytest.mark.parametrize("way", ["socks5h", "socks4a", "http", "connect"])
async def test_names_are_resolved_at_the_far_end(port, origin, dialer, way):
    status, output = await curl(*ways(port)[way], f"http://origin.test:{origin.port}/hello")
    assert (status, output) == (0, b"hello")
    assert dialer.dialled[0].host == "origin.test"


async def test_many_pages_over_one_connection(port, origin, dialer):
    urls = [origin.url + "/hello"] * 20
    assert await curl(*ways(port)["http"], *urls) == (0, b"hello" * 20)
    assert origin.connections == 1
    assert len(dialer.dialled) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_cut_short_is_an_error(port, origin, way):
    status, _ = await curl(*ways(port)[way], origin.url + "/cut")
    assert status in (18, RESET)


@pytest.mark.parametrize("way", ["socks5h", "socks4", "connect", "http"])
async def test_a_dead_port_is_reported(port, way):
    status, output = await curl(*ways(port)[way], f"http://127.0.0.1:{unused_port()}/")
    if way == "http":
        assert status == 0
        assert b"connection refused" in output
    else:
        assert status == (RESET if way == "connect" else PROXY_REFUSED)


@pytest.mark.parametrize("way", ["socks5h", "http", "connect"])
async def test_a_password_opens_a_locked_port(locked_port, origin, way):
    login = ["--proxy-user", "alice:sécret"]
    assert await curl(*ways(locked_port)[way], *login, origin.url + "/hello") == (0, b"hello")
    assert all(name != b"proxy-authorization" for name, _ in origin.requests[0].headers)


@pytest.mark.parametrize("way", ["socks5h", "socks4", "http", "connect"])
@pytest.mark.parametrize("login", [[], ["--proxy-user", "alice:wrong"]])
async def test_a_locked_port_refuses_a_wrong_login(locked_port, origin, dialer, way, login):
    status, output = await curl(*ways(locked_port)[way], *login, origin.url + "/hello")
    assert b"hello" not in output
    assert status != 0 or b"user name and a password" in output
    assert dialer.dialled == []


async def test_https_to_the_proxy_port_fails_at_once(port):
    status, _ = await curl("-x", f"https://{port.addresses[0]}", "http://127.0.0.1:9/")
    assert status in (35, RESET)


async def test_a_plain_request_to_the_proxy_port_is_told_that_this_is_a_proxy(port):
    status, output = await curl(f"http://{port.addresses[0]}/")
    assert status == 0
    assert b"This is a proxy, not a web server." in output


async def test_a_target_on_ipv6(port):
    async def hello(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nv6")

    try:
        server = await Origin(hello, "::1").__aenter__()
    except OSError:
        pytest.skip("this machine has no IPv6")
    for way in ("socks5h", "socks5", "http", "connect"):
        assert await curl(*ways(port)[way], f"http://[::1]:{server.port}/") == (0, b"v6"), way
    await server.__aexit__()
