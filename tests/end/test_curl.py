"""curl through every port, and the errors it gets when the target cannot be reached."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.end.clients import curl
from tests.end.world import Services
from tests.inbound.http_origin import BIG
from tests.machine import needs_localhost
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")

WAYS = ["socks5-hostname", "socks5", "socks4a", "http", "connect"]
RECEIVE_FAILED = 56  # CURLE_RECV_ERROR
# The reset may arrive before curl has noticed that it is connected, or before it has sent anything.
RESET = (7, 55, RECEIVE_FAILED)  # CURLE_COULDNT_CONNECT, CURLE_SEND_ERROR
PROXY_REFUSED = 97  # CURLE_PROXY


def through(network: PrivateNetwork, way: str, port: str = "browser") -> list[str]:
    """curl's options for using one of the client's proxy ports."""
    host, number = network.listener(port)
    address = f"{host}:{number}"
    match way:
        case "http":
            return ["-x", f"http://{address}"]
        case "connect":
            return ["-x", f"http://{address}", "--proxytunnel"]
    return [f"--{way}", address]


@pytest.mark.parametrize("way", WAYS)
async def test_a_page_arrives_as_it_was_sent(network: PrivateNetwork, services: Services, way: str) -> None:
    got = await curl(*through(network, way), f"{services.web.url}/big")
    assert (got.status, got.out) == (0, BIG)


@needs_localhost
@pytest.mark.parametrize("way", ["socks5-hostname", "socks4a", "http", "connect"])
async def test_a_name_is_resolved_by_the_server(
    network: PrivateNetwork, services: Services, way: str
) -> None:
    got = await curl(*through(network, way), f"http://localhost:{services.web.port}/hello")
    assert (got.status, got.out) == (0, b"hello")


@pytest.mark.parametrize("way", WAYS)
async def test_an_upload_with_expect_arrives_as_it_was_sent(
    network: PrivateNetwork, services: Services, way: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(BIG)
    upload = ["-H", "Expect: 100-continue", "-T", str(tmp_path / "file")]
    asked = len(services.web.events)
    got = await curl(*through(network, way), *upload, f"{services.web.url}/digest")
    assert (got.status, got.out) == (0, hashlib.sha256(BIG).hexdigest().encode())
    assert services.web.events[asked:] == ["100"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_form_that_is_posted_arrives(network: PrivateNetwork, services: Services, way: str) -> None:
    got = await curl(*through(network, way), "-d", "name=value", f"{services.web.url}/digest")
    assert (got.status, got.out) == (0, hashlib.sha256(b"name=value").hexdigest().encode())


async def test_a_forward_leads_to_its_target(network: PrivateNetwork, tmp_path: Path) -> None:
    host, port = network.listener("web")
    (tmp_path / "file").write_bytes(BIG)
    got = await curl(f"http://{host}:{port}/big")
    assert (got.status, got.out) == (0, BIG)
    got = await curl("-T", str(tmp_path / "file"), f"http://{host}:{port}/digest")
    assert (got.status, got.out) == (0, hashlib.sha256(BIG).hexdigest().encode())


@pytest.mark.parametrize("way", ["socks5", "socks5-hostname", "http", "connect"])
async def test_a_password_opens_the_port_that_has_one(
    network: PrivateNetwork, services: Services, way: str
) -> None:
    locked = [*through(network, way, "locked"), f"{services.web.url}/hello"]
    got = await curl("--proxy-user", "alice:secret", *locked)
    assert (got.status, got.out) == (0, b"hello")
    for login in ([], ["--proxy-user", "alice:sesame"]):
        got = await curl(*login, *locked)
        assert got.out != b"hello"
        assert got.status in (PROXY_REFUSED, RECEIVE_FAILED) or b"needs a user name and a password" in got.out


# By target: the URL, the SOCKS5 reply, the HTTP status, and the text of the error page.
MISTAKES = {
    "a port where nobody listens": ("http://127.0.0.1:{dead}/", 5, 502, "connection refused"),
    "a name that nobody has": ("http://nonexistent.invalid/", 4, 502, "cannot resolve it"),
    "an address that is not permitted": ("http://192.0.2.1/", 2, 403, "not permitted"),
    "a name that means an address that is denied": pytest.param(
        ("http://localhost:{denied}/", 2, 403, "not permitted"), marks=needs_localhost
    ),
}
mistakes = pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
Mistake = tuple[str, int, int, str]


@mistakes
async def test_a_socks5_client_gets_the_code_of_the_error(
    network: PrivateNetwork, services: Services, mistake: Mistake
) -> None:
    url, reply, _, _ = mistake
    got = await curl(*through(network, "socks5-hostname"), url.format(**services.ports))
    assert (got.status, got.out) == (PROXY_REFUSED, b"")
    assert f"({reply})" in got.err


@mistakes
async def test_a_socks4a_client_gets_an_error(
    network: PrivateNetwork, services: Services, mistake: Mistake
) -> None:
    got = await curl(*through(network, "socks4a"), mistake[0].format(**services.ports))
    assert (got.status, got.out) == (PROXY_REFUSED, b"")
    assert "(91)" in got.err


@mistakes
async def test_an_http_client_gets_a_page_with_the_error(
    network: PrivateNetwork, services: Services, mistake: Mistake
) -> None:
    url, _, status, words = mistake
    got = await curl(*through(network, "http"), "-w", "%{http_code}", url.format(**services.ports))
    assert got.status == 0
    assert got.out.endswith(str(status).encode())
    assert words in got.out.decode()


@mistakes
async def test_an_http_connect_gets_the_status_of_the_error(
    network: PrivateNetwork, services: Services, mistake: Mistake
) -> None:
    url, _, status, _ = mistake
    got = await curl(*through(network, "connect"), "-w", "%{http_connect}", url.format(**services.ports))
    assert (got.status, got.out) == (RECEIVE_FAILED, str(status).encode())


async def test_no_connection_reached_the_denied_service(network: PrivateNetwork, services: Services) -> None:
    for way in WAYS:
        for host in ("localhost", "127.0.0.1"):
            got = await curl(*through(network, way), f"http://{host}:{services.denied.port}/hello")
            assert got.out != b"hello"
    assert services.denied.connections == 0


async def test_a_forward_to_a_port_where_nobody_listens_ends_at_once(network: PrivateNetwork) -> None:
    host, port = network.listener("dead")
    got = await curl(f"http://{host}:{port}/")
    assert (got.status in RESET, got.out) == (True, b"")
