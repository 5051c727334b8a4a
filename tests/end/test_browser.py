"""A browser that loads a page with many objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end.clients import run
from tests.end.services import OBJECTS
from tests.end.world import Services
from toxproxy.demo import PrivateNetwork

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # Loopback goes through the proxy. Chromium's own requests to Google find no name server.
    "--proxy-bypass-list=<-loopback>;*.com",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.mark.parametrize("scheme", ["socks5", "http"])
async def test_chromium_loads_a_page_of_120_objects(
    network: PrivateNetwork, services: Services, scheme: str, tmp_path: Path
) -> None:
    host, port = network.listener("browser")
    asked = len(services.page.requests)
    got = await run(
        "chromium",
        *CHROMIUM,
        f"--user-data-dir={tmp_path}",
        f"--proxy-server={scheme}://{host}:{port}",
        "--dump-dom",
        f"http://127.0.0.1:{services.page.port}/",
    )
    assert got.status == 0
    assert f"<h1>{OBJECTS} arrived</h1>".encode() in got.out
    objects = [path for path in services.page.requests[asked:] if path.startswith("/object/")]
    assert len(objects) == len(set(objects)) == OBJECTS
