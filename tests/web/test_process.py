"""[web] of a server and a client that run as programs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest

from tests.alone import ALONE
from toxproxy.demo.network import Process

_WITHOUT = """\
import sys
sys.modules[{missing!r}] = None
sys.argv = ["toxproxy", "server", {config!r}, "--state", {state!r}]
from toxproxy.cli import main
sys.exit(main())
"""


async def test_the_ready_file_has_the_address_and_the_page_ends_with_the_program(tmp_path: Path) -> None:
    server = Process("server", tmp_path)
    await server.start(f"{ALONE}[web]\nlisten = 127.0.0.1:0\nsecret = 5e2f4c0a9b7d41e68f03\n")
    try:
        (address,) = server.ready["web"]
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://{address}/healthz") as response:
                assert (response.status, await response.text()) == (200, "ok\n")
            async with http.get(f"http://{address}/ready") as response:
                assert response.status == 503  # it is on no network
            headers = {"Authorization": "Bearer 5e2f4c0a9b7d41e68f03"}
            async with http.get(f"http://{address}/api/v1/events", headers=headers) as response:
                assert await response.content.readline() == b"event: status\n"
                assert await server.stop(10) == 0
    finally:
        await server.stop()
    assert "5e2f4c0a9b7d41e68f03" not in server.log.read_text()


async def test_without_a_page_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, toxproxy.cli; sys.exit('aiohttp' in sys.modules or 'prometheus_client' in sys.modules)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    assert await process.wait() == 0


@pytest.mark.parametrize("missing", ["aiohttp", "prometheus_client"])
async def test_a_package_that_is_missing_is_told_in_words(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "server.ini"
    file.write_text(f"{ALONE}[web]\nlisten = 127.0.0.1:0\n")
    code = _WITHOUT.format(missing=missing, config=str(file), state=str(tmp_path / "state"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    last = err.decode().splitlines()[-1]
    assert f"{file}:6: [web] needs the packages aiohttp and prometheus-client, and {missing}" in last
    assert "pip install 'toxproxy[web]'" in last
